"""What hosts say of those who sent false bytes is kept once, bounded, audited, counted, shown to whom it concerns."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from common.clock import ManualClock
from common.digest import Digest
from common.identifiers import new_id
from control_plane.audit.tables import inbox
from control_plane.database import Database
from control_plane.swarm.bad_peers import KEPT, BadPeers
from control_plane.swarm.bad_peers_store import OffenceFilter, OffenceRow
from control_plane.swarm.model import WantedContent
from control_plane.swarm.provenance_metrics import SwarmMetrics
from control_plane.swarm.service import SwarmService
from control_plane.tenants.access import Principal, Role
from control_plane.web.paging import PageRequest
from proto.agent.v1 import agent_pb2

pytestmark = pytest.mark.usefixtures("fleet")

ADMIN = Principal("u-0", "admin", platform_admin=True)
BLOB = WantedContent(Digest.of(b"blob"), 1000, "application/octet-stream")
EVERYTHING = OffenceFilter()


@pytest.fixture(autouse=True)
async def ordered(fleet: None, database: Database, swarm: SwarmService) -> None:
    """acme's blob is wanted in east, globex's in west."""
    async with database.transaction() as unit:
        await swarm.want(unit, "idc-east", "t-acme", "i-1", [BLOB])
        await swarm.want(unit, "idc-west", "t-globex", "i-2", [BLOB])


def offence(clock: ManualClock, **changed: Any) -> agent_pb2.Offence:
    said: dict[str, Any] = {
        "offence_id": new_id(clock),
        "kind": agent_pb2.OFFENCE_KIND_FALSE_BLOCK,
        "tenant_id": "t-acme",
        "digest": str(BLOB.digest),
        "source": "10.0.0.9:6881",
        "accused": "host/host-e2",
        "occurred_at_ms": int(clock.now().timestamp() * 1000),
    }
    return agent_pb2.Offence(**(said | changed))


async def shown(
    bad_peers: BadPeers, principal: Principal = ADMIN, wanted: OffenceFilter = EVERYTHING
) -> list[OffenceRow]:
    page, _ = await bad_peers.page(principal, wanted, PageRequest(page_size=200))
    assert page.total_count == len(page.items)
    return list(page.items)


async def test_a_report_is_kept_shown_and_audited_once(
    bad_peers: BadPeers, database: Database, clock: ManualClock
) -> None:
    said = offence(clock)
    for _ in range(3):
        await bad_peers.accept("host-e1", [said])
    (row,) = await shown(bad_peers)
    assert (row.idc, row.accuser, row.accused_name, row.source) == ("east", "e1", "east/e2", "10.0.0.9:6881")
    assert (row.kind, row.digest, row.occurred_at) == ("false_block", str(BLOB.digest), clock.now())
    async with database.reading() as connection:
        (told,) = await connection.scalars(select(inbox.c.entry))
    assert (told["operation"], told["operator"], told["tenant"]) == ("swarm.false_block", "host east/e1", "acme")
    assert (told["subject"], told["digest"], told["outcome"]) == ("east/e2", str(BLOB.digest), "failure")
    assert told["details"]["source"] == "10.0.0.9:6881"


async def test_whom_nobody_knows_is_named_by_its_address(bad_peers: BadPeers, clock: ManualClock) -> None:
    await bad_peers.accept("host-e1", [offence(clock, accused="")])
    await bad_peers.accept("host-e1", [offence(clock, accused="host/nobody")])
    assert {(row.accused, row.accused_name) for row in await shown(bad_peers)} == {("", ""), ("host/nobody", "")}
    # Regionals are named too.
    kind = agent_pb2.OFFENCE_KIND_FALSE_METAINFO
    said = offence(clock, kind=kind, source="https://10.0.0.1:1", accused="regional/regional-er")
    await bad_peers.accept("host-e1", [said])
    (row,) = await shown(bad_peers, wanted=OffenceFilter(accused="regional/regional-er"))
    assert (row.kind, row.accused_name) == ("false_metainfo", "east/er")


_PASSED_OVER: tuple[dict[str, Any], ...] = (
    {"offence_id": "1"},
    {"kind": 99},
    {"digest": "sha256:zz"},
    {"tenant_id": ""},
    {"tenant_id": "t\0"},
    {"accused": "../etc"},
    {"accused": "host/" + "a" * 60},
    {"tenant_id": "t-globex"},  # wanted, but not in this host's IDC
    {"digest": str(Digest.of(b"unwanted"))},
)


async def test_what_is_malformed_or_not_its_business_is_passed_over(bad_peers: BadPeers, clock: ManualClock) -> None:
    for changed in _PASSED_OVER:
        await bad_peers.accept("host-e1", [offence(clock, **changed)])
        assert await shown(bad_peers) == [], changed
    await bad_peers.accept("host-none", [offence(clock)])
    assert await shown(bad_peers) == []


async def test_texts_and_times_are_bounded(bad_peers: BadPeers, clock: ManualClock) -> None:
    await bad_peers.accept("host-e1", [offence(clock, source="x" * 3000, occurred_at_ms=(1 << 64) - 1)])
    (row,) = await shown(bad_peers)
    assert len(row.source) == 255
    assert row.occurred_at == clock.now()


async def test_what_one_host_says_in_a_day_is_bounded(
    bad_peers: BadPeers, clock: ManualClock, metrics: SwarmMetrics
) -> None:
    await bad_peers.accept("host-e1", [offence(clock) for _ in range(520)])
    page, _ = await bad_peers.page(ADMIN, EVERYTHING, PageRequest())
    assert page.total_count == 500
    await bad_peers.accept("host-e1", [offence(clock)])
    await bad_peers.accept("host-e2", [offence(clock, accused="host/host-e1")])
    page, _ = await bad_peers.page(ADMIN, EVERYTHING, PageRequest())
    assert page.total_count == 501
    assert metrics._passed_over.labels("east")._value.get() == 21
    assert metrics._offences.labels("east", "false_block")._value.get() == 501


async def test_old_ones_are_forgotten(bad_peers: BadPeers, clock: ManualClock) -> None:
    await bad_peers.accept("host-e1", [offence(clock)])
    clock.tick((KEPT - timedelta(days=1)).total_seconds())
    await bad_peers.accept("host-e1", [offence(clock)])
    assert await bad_peers.forget_old() == 0
    clock.tick(2 * 86400)
    assert await bad_peers.forget_old() == 1
    assert len(await shown(bad_peers)) == 1


async def test_a_tenant_is_shown_its_own_alone(bad_peers: BadPeers, clock: ManualClock) -> None:
    await bad_peers.accept("host-e1", [offence(clock)])
    await bad_peers.accept("host-w1", [offence(clock, tenant_id="t-globex")])
    ann = Principal("u-1", "ann", roles={"acme": Role.VIEWER})
    assert [row.tenant_id for row in await shown(bad_peers, ann)] == ["t-acme"]
    assert await shown(bad_peers, Principal("u-3", "noa")) == []


_FILTERS = (
    (OffenceFilter(idc="east"), 2),
    (OffenceFilter(idc="west"), 0),
    (OffenceFilter(accused="host/host-e2"), 1),
    (OffenceFilter(accused="10.0.0.8:1"), 1),
    (OffenceFilter(digest=str(BLOB.digest)), 2),
    (OffenceFilter(digest=str(Digest.of(b"other"))), 0),
)


async def test_they_are_filtered(bad_peers: BadPeers, clock: ManualClock) -> None:
    await bad_peers.accept("host-e1", [offence(clock), offence(clock, accused="", source="10.0.0.8:1")])
    for wanted, count in _FILTERS:
        assert len(await shown(bad_peers, wanted=wanted)) == count, wanted
