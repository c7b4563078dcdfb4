"""Bytes by source add up, for a content in a data centre and over all of them in the metrics."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from common.digest import Digest
from control_plane.database import Database
from control_plane.swarm.egress import EgressCounter
from control_plane.swarm.model import HostContent, WantedContent
from control_plane.swarm.overview import SwarmOverview
from control_plane.swarm.provenance_metrics import SwarmMetrics
from control_plane.swarm.provenance_queries import ProvenanceRow
from control_plane.swarm.service import SwarmService
from control_plane.tenants.access import Principal, Role
from control_plane.web.paging import PageRequest
from proto.agent.v1 import agent_pb2
from proto.content.v1 import content_pb2
from proto.regional.v1 import regional_pb2
from tests.control_plane.swarm.parts import Tenants

pytestmark = pytest.mark.usefixtures("fleet")

ADMIN = Principal("u-0", "admin", platform_admin=True)
BLOB = WantedContent(Digest.of(b"blob"), 1000, "application/octet-stream")


@pytest.fixture
def overview(database: Database, tenants: Tenants, egress: EgressCounter) -> SwarmOverview:
    return SwarmOverview(database, tenants, egress)


@pytest.fixture(autouse=True)
async def wanted(fleet: None, database: Database, swarm: SwarmService) -> None:
    async with database.transaction() as unit:
        for idc in ("east", "west"):
            await swarm.want(unit, f"idc-{idc}", "t-acme", f"i-{idc}", [BLOB])


def report(centre: int, regional: int, peers: int, reused: int = 0, held: int = 1000) -> agent_pb2.ContentReport:
    return agent_pb2.ContentReport(
        digest=str(BLOB.digest),
        tenant_id="t-acme",
        size_bytes=1000,
        held_bytes=held,
        verified=held == 1000,
        provenance=content_pb2.Provenance(
            from_centre_bytes=centre, from_regional_bytes=regional, from_peers_bytes=peers, reused_bytes=reused
        ),
    )


async def rows(
    overview: SwarmOverview, principal: Principal = ADMIN, idc: str | None = None, digest: str | None = None
) -> list[ProvenanceRow]:
    page, _ = await overview.provenance(principal, idc, digest, PageRequest())
    assert page.total_count == len(page.items)
    return list(page.items)


async def test_the_hosts_of_an_idc_are_summed_and_the_sources_add_up(
    swarm: SwarmService, overview: SwarmOverview
) -> None:
    await swarm.accept_content_reports("host-e1", [report(0, 700, 300)])
    await swarm.accept_content_reports("host-e2", [report(10, 90, 850, 100)])  # 50 came twice
    await swarm.accept_content_reports("host-w1", [report(400, 0, 0, held=400)])
    order = regional_pb2.OrderReport(
        tenant_id="t-acme",
        digest=str(BLOB.digest),
        size_bytes=1000,
        held_bytes=1000,
        phase=regional_pb2.ORDER_PHASE_HELD,
        from_centre_bytes=1000,
    )
    await swarm.accept_order_reports("regional-er", [order])
    east, west = await rows(overview)
    assert (east.idc, east.hosts, east.hosts_verified, east.held_bytes) == ("east", 2, 2, 2000)
    assert (east.from_centre_bytes, east.from_regional_bytes) == (10, 790)
    assert (east.from_peers_bytes, east.reused_bytes, east.wasted_bytes) == (1150, 100, 50)
    sources = east.from_centre_bytes + east.from_regional_bytes + east.from_peers_bytes + east.reused_bytes
    assert sources == east.held_bytes + east.wasted_bytes
    assert east.regional_from_centre_bytes == 1000
    assert (west.idc, west.hosts_verified, west.held_bytes, west.wasted_bytes) == ("west", 0, 400, 0)
    assert west.regional_from_centre_bytes == 0


async def test_it_is_filtered_and_shown_to_the_tenant_alone(swarm: SwarmService, overview: SwarmOverview) -> None:
    await swarm.accept_content_reports("host-e1", [report(0, 1000, 0)])
    await swarm.accept_content_reports("host-w1", [report(0, 1000, 0)])
    assert [row.idc for row in await rows(overview, idc="west")] == ["west"]
    assert await rows(overview, digest=str(Digest.of(b"other"))) == []
    assert len(await rows(overview, Principal("u-1", "ann", roles={"acme": Role.VIEWER}))) == 2
    assert await rows(overview, Principal("u-2", "gil", roles={"globex": Role.ADMIN})) == []


async def test_every_byte_is_counted_once_in_the_metrics(swarm: SwarmService, metrics: SwarmMetrics) -> None:
    for centre, regional, peers in ((0, 300, 0), (0, 300, 0), (0, 700, 300)):
        await swarm.accept_content_reports("host-e1", [report(centre, regional, peers, held=300)])
    await swarm.accept_content_reports("host-e2", [report(0, 0, 900, 100)])
    counted = {
        source: metrics._received.labels("east", source)._value.get() for source in ("regional", "peers", "reused")
    }
    assert counted == {"regional": 700, "peers": 1200, "reused": 100}


def test_counters_that_fall_are_not_subtracted() -> None:
    """An agent that lost its data directory begins at zero again."""
    registry = CollectorRegistry()
    metrics = SwarmMetrics(registry)

    def content(peers: int) -> HostContent:
        return HostContent("h", "t", BLOB.digest, 1000, 1000, True, 0, 0, peers)

    metrics.received("east", content(900), content(100))
    metrics.received("east", content(100), content(150))
    assert registry.get_sample_value("swarm_received_bytes_total", {"idc": "east", "source": "peers"}) == 50
