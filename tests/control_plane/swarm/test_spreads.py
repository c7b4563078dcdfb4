from __future__ import annotations

from datetime import timedelta

import pytest

from common.clock import ManualClock
from common.digest import Digest
from common.errors import Invalid
from common.limits import Link
from control_plane.database import Database
from control_plane.fleet.limits import store as limits_store
from control_plane.fleet.limits.model import LimitPolicy, Scope, ScopeKind
from control_plane.fleet.model import IdcUnknown
from control_plane.swarm.model import WantedContent
from control_plane.swarm.service import SwarmService
from control_plane.swarm.spreads.service import SpreadService
from control_plane.tenants.access import Principal, Role
from control_plane.web.paging import PageRequest
from proto.agent.v1 import agent_pb2
from proto.content.v1 import content_pb2
from tests.control_plane.swarm.parts import Tenants

pytestmark = pytest.mark.usefixtures("fleet")
ADMIN = Principal("u-0", "admin", platform_admin=True)
MEMBER = Principal("u-1", "olga", roles={"acme": Role.VIEWER})
STRANGER = Principal("u-2", "gil", roles={"globex": Role.ADMIN})
ALL = PageRequest(page_size=200)
SIZE = 100_000_000
DIGEST = Digest.of(b"large")


@pytest.fixture
def spreads(database: Database, tenants: Tenants) -> SpreadService:
    return SpreadService(database, tenants)


@pytest.fixture
async def wanted(database: Database, swarm: SwarmService, fleet: None) -> None:
    async with database.transaction() as unit:
        await swarm.want(unit, "idc-east", "t-acme", "owner", [WantedContent(DIGEST, SIZE, "layer")])


async def says(swarm: SwarmService, host: str, held: int, **sources: int) -> None:
    report = agent_pb2.ContentReport(
        digest=str(DIGEST),
        tenant_id="t-acme",
        size_bytes=SIZE,
        held_bytes=held,
        verified=held == SIZE,
        provenance=content_pb2.Provenance(**sources),
    )
    await swarm.accept_content_reports(host, [report])


async def spread(swarm: SwarmService, clock: ManualClock) -> None:
    """To two hosts, in 20 seconds."""
    await says(swarm, "host-e1", 1)
    clock.tick(5)
    await says(swarm, "host-e2", 1)
    clock.tick(5)
    await says(swarm, "host-e1", SIZE // 2)
    clock.tick(5)
    await says(swarm, "host-e1", SIZE, from_regional_bytes=60_000_000, from_peers_bytes=40_000_000)
    clock.tick(5)
    await says(swarm, "host-e2", SIZE, from_regional_bytes=50_000_000, from_peers_bytes=50_000_000)


async def limit(database: Database, **mbps: float) -> None:
    policy = LimitPolicy({Link(name): rate for name, rate in mbps.items()})
    async with database.transaction() as unit:
        await limits_store.put(unit.connection, Scope(ScopeKind.IDC, "idc-east"), policy, unit.clock.now())


@pytest.mark.usefixtures("wanted")
async def test_a_spread_is_compared_with_what_the_limits_allow(
    spreads: SpreadService, swarm: SwarmService, clock: ManualClock, database: Database
) -> None:
    await limit(database, wan_down=50, regional_up=100, host_up=100, host_down=1000)
    await spread(swarm, clock)
    (report,) = (await spreads.reports(MEMBER, "east", None, ALL)).items
    assert (report.idc, report.tenant, len(report.spread.shares), report.spread.seconds) == ("east", "acme", 2, 20.0)
    assert report.bound.seconds == pytest.approx(16.0)
    assert report.bound.binding == "WAN east"
    assert report.efficiency == pytest.approx(0.8)


@pytest.mark.usefixtures("wanted")
async def test_unlimited_links_are_as_fast_as_was_ever_measured(
    spreads: SpreadService, swarm: SwarmService, clock: ManualClock
) -> None:
    await spread(swarm, clock)
    (report,) = (await spreads.reports(ADMIN, None, str(DIGEST), ALL)).items
    assert report.efficiency == pytest.approx(1.0)
    forecast = await spreads.forecast(MEMBER, 10 * SIZE, ("east",), 2)
    assert forecast.bound.seconds == pytest.approx(200.0)
    assert not forecast.idcs[0].speeds[Link.WAN_DOWN].limited


@pytest.mark.usefixtures("wanted")
async def test_what_comes_again_later_is_another_spread(
    spreads: SpreadService, swarm: SwarmService, clock: ManualClock
) -> None:
    await spread(swarm, clock)
    clock.tick(3600)
    await says(swarm, "host-e1", 0)
    reports = (await spreads.reports(ADMIN, None, None, ALL)).items
    assert [(len(one.spread.shares), one.spread.ended_at is None) for one in reports] == [(1, True), (1, False)]
    clock.tick(31 * 86_400)
    assert await spreads.forget(timedelta(days=30)) == 2
    assert (await spreads.reports(ADMIN, None, None, ALL)).items == []


@pytest.mark.usefixtures("wanted")
async def test_contents_of_others_are_not_shown(
    spreads: SpreadService, swarm: SwarmService, clock: ManualClock
) -> None:
    await spread(swarm, clock)
    assert (await spreads.reports(STRANGER, None, None, ALL)).items == []
    assert (await spreads.forecast(STRANGER, SIZE, ("east",), 2)).bound.seconds > 0


async def test_a_forecast_names_the_bottleneck_of_the_slowest_idc(spreads: SpreadService, database: Database) -> None:
    await limit(database, wan_down=400, host_down=1000)
    forecast = await spreads.forecast(MEMBER, 10_000_000_000, (), 400)
    assert (forecast.bound.seconds, forecast.bound.binding) == (200.0, "WAN east")
    assert [one.idc for one in forecast.idcs] == ["east", "west"]
    assert (await spreads.forecast(MEMBER, SIZE, ("west",), None)).bound.seconds == 0
    with pytest.raises(IdcUnknown):
        await spreads.forecast(MEMBER, SIZE, ("nowhere",), None)
    with pytest.raises(Invalid):
        await spreads.forecast(MEMBER, 0, (), None)
