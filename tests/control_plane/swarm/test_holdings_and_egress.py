from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import ManualClock
from common.digest import Digest
from common.errors import Unavailable
from control_plane.database import Database, UnitOfWork
from control_plane.swarm import queries, reports
from control_plane.swarm.egress import EgressCounter
from control_plane.swarm.model import EgressKey, HostContent, WantedContent
from control_plane.swarm.service import SwarmService
from control_plane.web.paging import PageRequest
from proto.agent.v1 import agent_pb2
from proto.content.v1 import content_pb2
from tests.pace import BUSY_SECONDS

pytestmark = pytest.mark.usefixtures("fleet")

BLOB = WantedContent(Digest.of(b"blob"), 1000, "application/octet-stream")


def report(held: int, *, verified: bool = False, centre: int = 0, peers: int = 0) -> agent_pb2.ContentReport:
    return agent_pb2.ContentReport(
        digest=str(BLOB.digest),
        tenant_id="t-acme",
        size_bytes=BLOB.size_bytes,
        held_bytes=held,
        verified=verified,
        provenance=content_pb2.Provenance(from_centre_bytes=centre, from_peers_bytes=peers),
    )


@pytest.fixture
async def wanted(fleet: None, database: Database, swarm: SwarmService) -> None:
    async with database.transaction() as unit:
        await swarm.want(unit, "idc-east", "t-acme", "i-1", [BLOB])


async def held(swarm: SwarmService, host: str = "host-e1") -> list[HostContent]:
    return await swarm.holdings([host], [BLOB.digest])


@pytest.mark.usefixtures("wanted")
async def test_the_last_report_of_a_host_counts(swarm: SwarmService) -> None:
    await swarm.accept_content_reports("host-e1", [report(10, centre=10)])
    await swarm.accept_content_reports("host-e1", [report(1000, verified=True, centre=10, peers=990)])
    (content,) = await held(swarm)
    assert (content.held_bytes, content.verified, content.from_centre_bytes, content.from_peers_bytes) == (
        1000,
        True,
        10,
        990,
    )
    assert await held(swarm, "host-e2") == []


@pytest.mark.usefixtures("wanted")
async def test_a_report_that_says_nothing_new_writes_nothing(
    swarm: SwarmService, database: Database, clock: ManualClock
) -> None:
    await swarm.accept_content_reports("host-e1", [report(10)])
    clock.tick(60)
    await swarm.accept_content_reports("host-e1", [report(10)])
    async with database.reading() as connection:
        page = await queries.content_rows(connection, None, queries.ContentFilter(), PageRequest())
    assert page.items[0].reported_at < clock.now()


async def test_hosts_cannot_fill_the_tables_with_what_nobody_wants(swarm: SwarmService) -> None:
    await swarm.accept_content_reports("host-e1", [report(10)])
    assert await held(swarm) == []


@pytest.mark.usefixtures("wanted")
async def test_what_was_evicted_and_is_not_wanted_is_forgotten(swarm: SwarmService, database: Database) -> None:
    await swarm.accept_content_reports("host-e1", [report(1000, verified=True)])
    async with database.transaction() as unit:
        await swarm.release(unit, "i-1")
    assert await held(swarm)
    await swarm.accept_content_reports("host-e1", [report(0)])
    assert await held(swarm) == []


@given(st.binary(max_size=200))
def test_no_report_from_the_wire_breaks_the_reader(data: bytes) -> None:
    try:
        parsed = agent_pb2.ContentReport.FromString(data)
    except Exception:  # protobuf refuses what is no message at all
        return
    found = reports.host_content("host", parsed)
    assert found is None or found.held_bytes <= found.size_bytes < 1 << 63


def key(idc: str = "east", tenant: str = "t-acme") -> EgressKey:
    return EgressKey(idc, tenant, BLOB.digest, BLOB.size_bytes)


async def totals(database: Database) -> dict[str, int]:
    async with database.reading() as connection:
        return await queries.egress_totals(connection, None)


async def test_counts_are_added_by_idc(egress: EgressCounter, database: Database) -> None:
    egress.add(key("east"), 100)
    egress.add(key("east"), 50)
    egress.add(key("west"), 7)
    await egress.flush()
    egress.add(key("east"), 1)
    await egress.flush()
    await egress.flush()
    assert await totals(database) == {"east": 151, "west": 7}


async def test_replicas_add_to_the_same_counts(
    open_replica: Callable[[], Database], clock: ManualClock, database: Database
) -> None:
    counters = [EgressCounter(open_replica(), clock) for _ in range(3)]
    for _ in range(5):
        for counter in counters:
            counter.add(key(), 10)
        await asyncio.gather(*(counter.flush() for counter in counters))
    assert await totals(database) == {"east": 150}


async def test_counts_of_a_deleted_idc_do_not_stop_the_others(egress: EgressCounter, database: Database) -> None:
    egress.add(key("gone"), 5)
    egress.add(key("west"), 5)
    await egress.flush()
    assert await totals(database) == {"west": 5}


async def test_counts_wait_while_the_database_is_away(database: Database, clock: ManualClock) -> None:
    class Restarting:
        """Away once, then the real one."""

        away = True

        def transaction(self) -> AbstractAsyncContextManager[UnitOfWork]:
            if self.away:
                self.away = False
                raise Unavailable("the database is away")
            return database.transaction()

    egress = EgressCounter(cast("Database", Restarting()), clock)
    egress.add(key(), 5)
    with pytest.raises(Unavailable):
        await egress.flush()
    egress.add(key(), 1)
    await egress.flush()
    assert await totals(database) == {"east": 6}


async def test_counts_are_flushed_each_period_and_at_the_end(
    egress: EgressCounter, database: Database, clock: ManualClock
) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(egress.run())
        egress.add(key(), 5)
        await clock.advance(5)
        async with asyncio.timeout(BUSY_SECONDS):
            while await totals(database) != {"east": 5}:  # noqa: ASYNC110  a row tells nobody that it is there
                await asyncio.sleep(0.01)
        egress.add(key(), 6)
        running.cancel()
    assert await totals(database) == {"east": 11}
