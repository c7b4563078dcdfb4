"""A damaged blob is asked back from whoever holds it at the edge; what comes back is believed only by its digest; on
both engines.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from common.clock import ManualClock, SystemClock
from common.digest import Digest
from control_plane.database import Database
from control_plane.fleet.tables import hosts, regionals
from control_plane.registry.stores.scrubbing.healing import Healer
from control_plane.swarm import contents_store
from control_plane.swarm.healing import EdgeHealer, Returns
from control_plane.swarm.model import HostContent, RegionalContent
from control_plane.swarm.returns_store import Holder, ReturnState
from control_plane.swarm.tables import content_returns
from tests.conformance.blob_store import content
from tests.control_plane.registry.pushing import push_blob
from tests.control_plane.registry.stores.sites import Site
from tests.control_plane.swarm.parts import announced

pytestmark = pytest.mark.usefixtures("fleet")

DATA = content(300_000)
DIGEST, SIZE = Digest.of(DATA), len(DATA)
EAST, WEST, HOST = Holder("regional", "regional-er"), Holder("regional", "regional-wr"), Holder("host", "host-e1")
MINUTES = timedelta(minutes=5)


async def attach(database: Database, *holders: Holder) -> None:
    async with database.transaction() as unit:
        for holder in holders:
            table = regionals if holder.kind == "regional" else hosts
            await unit.connection.execute(update(table).where(table.c.id == holder.id).values(session_id="s"))


async def report(database: Database, holder: Holder, held: int = SIZE) -> None:
    async with database.transaction() as unit:
        now = unit.clock.now()
        if holder.kind == "regional":
            phase = "held" if held == SIZE else "fetching"
            rows = [RegionalContent(holder.id, tenant, DIGEST, SIZE, held, phase, 0) for tenant in ("t-a", "t-b")]
            await contents_store.put_regional_contents(unit.connection, rows, now)
        else:
            row = HostContent(holder.id, "t-a", DIGEST, SIZE, held, held == SIZE, 0, 0, 0)
            await contents_store.put_host_contents(unit.connection, [row], now)


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


class Edge:
    """Answers each request as its holder would."""

    def __init__(self, returns: Returns, database: Database) -> None:
        self.returns = returns
        self.database = database
        self.asked: list[Holder] = []
        self.gives: dict[Holder, bytes | None] = {}

    async def serve(self) -> None:
        seen: set[str] = set()
        while True:
            async with self.database.reading() as connection:
                rows = await connection.execute(content_returns.select())
                found = [(row.id, Holder(row.holder_kind, row.holder_id)) for row in rows]
            for request_id, holder in found:
                if request_id not in seen:
                    seen.add(request_id)
                    await self._answer(request_id, holder)
            await asyncio.sleep(0.01)

    async def _answer(self, request_id: str, holder: Holder) -> None:
        self.asked.append(holder)
        data = self.gives.get(holder)
        if data is None:
            await self.returns.refuse(holder, request_id)
        else:
            await self.returns.receive(holder, request_id, pieces(data))


@pytest.fixture
async def site(database: Database, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Site]:
    healers: list[Healer] = []
    opened = Site(database, clock, tmp_path, healers)
    members = opened.stores.members
    healers.append(EdgeHealer(Returns(database, members), members, SystemClock()))
    await push_blob(opened.registry, DATA)
    await opened.parts.notes.flush()
    yield opened
    await opened.stores.close()


@pytest.fixture
async def edge(site: Site, database: Database) -> AsyncIterator[Edge]:
    subject = Edge(Returns(database, site.stores.members), database)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(subject.serve())
        yield subject
        task.cancel()


def damage(site: Site) -> None:
    site.path("primary", DIGEST).write_bytes(bytes(SIZE))
    site.clock.tick(timedelta(days=8).total_seconds())


async def test_a_regional_gives_back_what_the_disk_damaged(site: Site, edge: Edge, database: Database) -> None:
    await attach(database, EAST, HOST)
    await report(database, EAST)
    await report(database, HOST)
    edge.gives[EAST] = DATA
    damage(site)
    done = await site.parts.scrubber.run()
    assert (done.damaged, done.healed, done.lost) == (1, 1, 0)
    assert site.path("primary", DIGEST).read_bytes() == DATA
    assert edge.asked == [EAST]
    assert "swarm.return_wanted" in await announced(database)
    async with database.reading() as connection:
        assert (await connection.execute(content_returns.select())).first() is None


async def test_other_bytes_change_nothing_and_somebody_else_is_asked(
    site: Site, edge: Edge, database: Database
) -> None:
    await attach(database, EAST, WEST, HOST)
    for holder in (EAST, WEST, HOST):
        await report(database, holder)
    edge.gives = {EAST: b"\0" + DATA[1:], WEST: None, HOST: DATA}
    damage(site)
    done = await site.parts.scrubber.run()
    assert (done.healed, done.lost) == (1, 0)
    assert set(edge.asked[:2]) == {EAST, WEST}
    assert edge.asked[2:] == [HOST]
    assert site.path("primary", DIGEST).read_bytes() == DATA


async def test_a_blob_that_only_liars_hold_stays_lost(site: Site, edge: Edge, database: Database) -> None:
    await attach(database, EAST)
    await report(database, EAST)
    damage(site)
    for given in (b"\0" + DATA[1:], DATA[:-1], DATA + b"\0", b""):
        edge.gives[EAST] = given
        done = await site.parts.scrubber.run()
        assert (done.healed, done.lost) == (0, 1)
        assert not site.path("primary", DIGEST).exists()
    edge.gives[EAST] = DATA
    assert (await site.parts.scrubber.run()).healed == 1


async def test_only_who_holds_all_of_it_and_is_there_is_asked(site: Site, edge: Edge, database: Database) -> None:
    await attach(database, EAST, HOST)
    await report(database, EAST, SIZE - 1)
    await report(database, WEST)
    async with database.transaction() as unit:
        gone = update(hosts).where(hosts.c.id == HOST.id).values(revoked_at=unit.clock.now())
        await unit.connection.execute(gone)
    await report(database, HOST)
    damage(site)
    assert (await site.parts.scrubber.run()).lost == 1
    assert edge.asked == []


async def test_nobody_gives_what_was_not_asked_of_it(site: Site, database: Database, clock: ManualClock) -> None:
    returns = Returns(database, site.stores.members)
    site.path("primary", DIGEST).unlink()
    request = await returns.ask(EAST, DIGEST, SIZE, MINUTES)
    for holder, request_id in ((WEST, request), (Holder("host", EAST.id), request), (EAST, "another")):
        assert await returns.receive(holder, request_id, pieces(DATA)) is False
    clock.tick(MINUTES.total_seconds())
    assert await returns.receive(EAST, request, pieces(DATA)) is False
    assert not site.path("primary", DIGEST).exists()


async def test_a_request_is_good_for_one_try(site: Site, database: Database) -> None:
    returns = Returns(database, site.stores.members)
    site.path("primary", DIGEST).unlink()
    request = await returns.ask(EAST, DIGEST, SIZE, MINUTES)

    async def broken() -> AsyncIterator[bytes]:
        yield DATA[:1000]
        raise ConnectionResetError("the line broke")

    with pytest.raises(ConnectionResetError):
        await returns.receive(EAST, request, broken())
    assert await returns.state(request) is ReturnState.REFUSED
    assert await returns.receive(EAST, request, pieces(DATA)) is False
    again = await returns.ask(EAST, DIGEST, SIZE, MINUTES)
    assert await returns.receive(EAST, again, pieces(DATA)) is True
    assert await returns.state(again) is ReturnState.GIVEN
    assert site.path("primary", DIGEST).read_bytes() == DATA
