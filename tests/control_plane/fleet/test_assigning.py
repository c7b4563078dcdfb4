"""Hosts that ask at the same time are answered by one reading of the database, in which all layers see one moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import func, select

from common.errors import Failure
from common.gathering import MOST_AT_ONCE
from control_plane.database import Connection, Database
from control_plane.fleet.assigning import LayeredAssignments
from control_plane.fleet.desired import Asked, AssignmentSnapshot
from control_plane.fleet.model import HostUnknown
from control_plane.fleet.tables import hosts
from proto.agent.v1 import agent_pb2
from tests.control_plane.swarm.parts import add_host, add_idc


class Ground:
    """The lowest layer: says how many hosts there are, as the generation. Hosts called `none...` do not exist."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.reported: list[str] = []

    async def assigned(self, connection: Connection, asked: Sequence[Asked]) -> list[AssignmentSnapshot | Failure]:
        self.asked.append(len(asked))
        there = int(await connection.scalar(select(func.count()).select_from(hosts)) or 0)
        return [
            HostUnknown("no such host") if one.host_id.startswith("none") else AssignmentSnapshot(there, one.held or {})
            for one in asked
        ]

    async def accept_reports(
        self,
        host_id: str,
        instances: Sequence[agent_pb2.InstanceReport],
        contents: Sequence[agent_pb2.ContentReport],
    ) -> None:
        self.reported.append(host_id)


class Meanwhile(Ground):
    """A layer over another: between its question and theirs another host comes."""

    def __init__(self, inner: Ground, database: Database) -> None:
        super().__init__()
        self._inner = inner
        self._database = database
        self.seen: list[tuple[int, int]] = []

    async def assigned(self, connection: Connection, asked: Sequence[Asked]) -> list[AssignmentSnapshot | Failure]:
        (below,) = await self._inner.assigned(connection, asked)
        await add_host(self._database, "east", f"e{len(self.seen)}")
        (above,) = await super().assigned(connection, asked)
        assert isinstance(below, AssignmentSnapshot)
        assert isinstance(above, AssignmentSnapshot)
        self.seen.append((below.generation, above.generation))
        return [above]


async def test_hosts_that_ask_together_are_read_together_and_each_gets_its_own(database: Database) -> None:
    ground = Ground()
    source = LayeredAssignments(database, ground)
    held = [{f"i-{number}": agent_pb2.Assignment(instance_id=f"i-{number}")} for number in range(500)]

    found = await asyncio.gather(*(source.assignments(f"h-{number}", own) for number, own in enumerate(held)))

    assert [one.assignments for one in found] == held
    assert sum(ground.asked) == 500
    assert len(ground.asked) <= 2 + 500 // MOST_AT_ONCE


async def test_a_host_that_there_is_not_spoils_nobody_elses_answer(database: Database) -> None:
    source = LayeredAssignments(database, Ground())
    found = await asyncio.gather(*(source.assignments(name) for name in ("h", "none", "i")), return_exceptions=True)
    assert [type(one) for one in found] == [AssignmentSnapshot, HostUnknown, AssignmentSnapshot]


async def test_all_layers_see_the_moment_of_the_first_question(database: Database) -> None:
    await add_idc(database, "east")
    layer = Meanwhile(Ground(), database)
    source = LayeredAssignments(database, layer)

    snapshots = [await source.assignments("h") for _ in range(3)]

    assert layer.seen == [(0, 0), (1, 1), (2, 2)]
    assert [one.generation for one in snapshots] == [0, 1, 2]


async def test_reports_go_through_the_layers(database: Database) -> None:
    ground = Ground()
    await LayeredAssignments(database, ground).accept_reports("h", [], [])
    assert ground.reported == ["h"]


async def test_an_outage_of_a_layer_reaches_all_who_asked(database: Database) -> None:
    class Broken(Ground):
        async def assigned(self, connection: Connection, asked: Sequence[Asked]) -> list[AssignmentSnapshot | Failure]:
            raise HostUnknown("everything is away")

    source = LayeredAssignments(database, Broken())
    found = await asyncio.gather(*(source.assignments(f"h-{one}") for one in range(5)), return_exceptions=True)
    assert [type(one) for one in found] == [HostUnknown] * 5
    with pytest.raises(HostUnknown):
        await source.assignments("h")
