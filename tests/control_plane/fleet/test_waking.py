"""Streams of the process that changed something hear of it at once; nobody is woken twice for one generation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select

from common.clock import ManualClock
from control_plane.database import Database
from control_plane.database.messages import Message
from control_plane.database.outbox import outbox
from control_plane.events import Event
from control_plane.events.memory import MemoryEventBus
from control_plane.fleet.messages import AssignmentsChanged
from control_plane.fleet.model import HostUnknown, Member
from control_plane.fleet.session import Session
from control_plane.fleet.waking import wake
from tests.control_plane.fleet.edge import Edge, eventually
from tests.control_plane.fleet.plane import Plane
from tests.control_plane.swarm.parts import add_host, add_idc


class DeafBus(MemoryEventBus):
    """Takes everything and brings nothing."""

    async def publish(self, event: Event) -> None:
        pass


def attached(clock: ManualClock) -> Session:
    member = Member("host", "h", "e1", "idc-east", "east", "", clock.now(), None, None, None, None, None)
    return Session(member, "s", "p", clock)


def is_woken(session: Session) -> bool:
    """And hears the next word again."""
    woken = session.stale.is_set()
    session.stale.clear()
    return woken


def test_the_second_word_of_one_generation_wakes_nobody(clock: ManualClock) -> None:
    session = attached(clock)
    heard = []
    for generation in (5, 5, 4, 6, 6):
        session.changed(generation)
        heard.append(is_woken(session))
    assert heard == [True, False, False, True, False]


def test_a_database_that_was_restored_to_an_older_generation_wakes_again(clock: ManualClock) -> None:
    session = attached(clock)
    session.changed(9)
    is_woken(session)
    session.differs(3)
    assert is_woken(session)
    session.changed(4)
    assert is_woken(session)


async def test_a_change_of_many_hosts_counts_each_once_and_names_their_generations(database: Database) -> None:
    await add_idc(database, "east")
    ids = [await add_host(database, "east", f"e{number}") for number in range(3)]
    told: list[Message] = []
    database.overheard.append(told.extend)

    async with database.transaction() as unit:
        await wake(unit, ids[:1])
    async with database.transaction() as unit:
        await wake(unit, [ids[2], ids[0], ids[0], ids[1]])
        await wake(unit, [])

    assert told == [AssignmentsChanged(ids[0], (), (2,)), AssignmentsChanged(ids[0], (ids[1], ids[2]), (3, 2, 2))]


async def test_a_host_that_there_is_not_is_named_and_nothing_is_counted(database: Database) -> None:
    await add_idc(database, "east")
    host_id = await add_host(database, "east", "e1")
    overheard: list[Sequence[Message]] = []
    database.overheard.append(overheard.append)

    with pytest.raises(HostUnknown, match="no host none"):
        async with database.transaction() as unit:
            await wake(unit, [host_id, "none"])

    assert overheard == []
    async with database.reading() as connection:
        assert await connection.scalar(select(func.count()).select_from(outbox)) == 0


async def test_a_change_reaches_the_streams_of_its_process_while_no_event_arrives(
    sqlite_url: str, tmp_path: Path
) -> None:
    async with Plane(sqlite_url, bus=DeafBus()) as plane:
        agent = Edge(plane, tmp_path / "e1")
        await agent.enrol(await plane.join_token())
        async with agent.attached():
            generation = await plane.desired.assign(agent.id, web=1)
            await eventually(lambda: agent.held.generation == generation)


async def test_who_gives_way_returns_after_the_hosts_that_were_woken_have_been_told(
    plane: Plane, tmp_path: Path
) -> None:
    agent = Edge(plane, tmp_path / "e1")
    await agent.enrol(await plane.join_token())
    async with agent.attached():
        session = plane.fleet.sessions.find("host", agent.id)
        assert session is not None
        generation = await plane.desired.assign(agent.id, web=1)
        before = session.told_generation
        await asyncio.wait_for(plane.fleet.sessions.give_way(), 30)
        assert (before < generation, session.told_generation) == (True, generation)
