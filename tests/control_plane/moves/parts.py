"""Hosts with LXD that do what they are told of moves, when the test lets them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update

from common.clock import ManualClock
from common.lxd_image import CONFIG, UNIFIED
from common.reference import Reference
from control_plane.database import Database
from control_plane.fleet.assigning import LayeredAssignments
from control_plane.fleet.tables import hosts
from control_plane.instances.tables import instances
from control_plane.moves.assignments import MoveAssignments
from control_plane.moves.carrying import Carrying
from control_plane.registry.model import ResolvedImage
from control_plane.swarm.tables import wants
from proto.agent.v1 import agent_pb2, moves_pb2
from tests.control_plane.instances.parts import said
from tests.control_plane.swarm.parts import Shelf, add_host

GIB = 1 << 30
VPS = "acme/system:1"
_ENDS = (agent_pb2.DESIRED_STATE_STOPPED, agent_pb2.DESIRED_STATE_HELD)


def put_lxd_image(shelf: Shelf) -> None:
    parsed = Reference.parse(VPS)
    contents = (shelf.put(b"config of an LXD image", CONFIG), shelf.put(b"all of it", UNIFIED))
    manifest = shelf.put(b"manifest of an LXD image", "application/vnd.oci.image.manifest.v1+json")
    shelf.images[VPS, "amd64"] = ResolvedImage(parsed.repository, "t-acme", parsed.tag, manifest, contents)


class Fleet:
    """`running`, `copies`: by host, ids of instances that run, that stand there. unwell: hosts where nothing starts."""

    def __init__(
        self, database: Database, clock: ManualClock, assignments: MoveAssignments, carrying: Carrying
    ) -> None:
        self.database = database
        self.clock = clock
        self.moves = assignments
        self.assignments = LayeredAssignments(database, assignments)
        self.carrying = carrying
        self.running: dict[str, set[str]] = {}
        self.there: dict[str, set[str]] = {}
        self.unwell: set[str] = set()
        self.stages: list[str] = []

    async def host(self, idc: str, name: str) -> str:
        host_id = await add_host(self.database, idc, name)
        facts = {"architecture": "amd64", "cpus": 4, "memory_bytes": 8 * GIB, "engines": [{"kind": "lxd"}]}
        await self.change(host_id, facts=facts, session_id=f"s-{name}", last_seen_at=self.clock.now())
        self.running[host_id], self.there[host_id] = set(), set()
        return host_id

    async def change(self, host_id: str, **values: Any) -> None:
        async with self.database.transaction() as unit:
            await unit.connection.execute(update(hosts).where(hosts.c.id == host_id).values(**values))

    async def told(self, host_id: str) -> dict[str, agent_pb2.Assignment]:
        return dict((await self.assignments.assignments(host_id)).assignments)

    async def obey(self, *host_ids: str) -> None:
        for host_id in host_ids or self.running:
            await self.change(host_id, last_seen_at=self.clock.now())
            told = await self.told(host_id)
            self.there[host_id] &= told.keys()
            self.running[host_id] &= told.keys()
            for one in told.values():
                await self._obey(host_id, one)
        running = [one for ids in self.running.values() for one in ids]
        assert len(running) == len(set(running)), "an instance runs twice"

    async def _obey(self, host_id: str, one: agent_pb2.Assignment) -> None:
        running, there, key = self.running[host_id], self.there[host_id], one.instance_id
        phase = agent_pb2.PHASE_STOPPED
        if one.desired_state == agent_pb2.DESIRED_STATE_REMOVED:
            there.discard(key)
            phase = agent_pb2.PHASE_REMOVED
        elif one.HasField("take_over") and one.desired_state == agent_pb2.DESIRED_STATE_HELD:
            phase = agent_pb2.PHASE_STOPPED if one.take_over.addresses else agent_pb2.PHASE_PENDING
            if one.take_over.addresses:
                there.add(key)
        elif one.desired_state == agent_pb2.DESIRED_STATE_RUNNING:
            copied = key in there or not one.HasField("take_over")
            phase = agent_pb2.PHASE_RUNNING if copied and host_id not in self.unwell else agent_pb2.PHASE_FAILED
            if copied:
                there.add(key)
        if one.HasField("hand_over"):
            waits = moves_pb2.MoveReport(move_id=one.hand_over.move_id, addresses=["10.0.0.1:4711"])
            await self.moves.accept_moves(host_id, [waits])
        (running.add if phase == agent_pb2.PHASE_RUNNING else running.discard)(key)
        await self.assignments.accept_reports(host_id, [said(key, one.generation, phase)], [])

    async def settle(self, *host_ids: str, rounds: int = 12, seconds: float = 3) -> None:
        for _ in range(rounds):
            await self.obey(*host_ids)
            await self.clock.advance(seconds)
            await self.carrying.once()

    async def where(self) -> dict[str, str]:
        async with self.database.reading() as connection:
            rows = await connection.execute(select(instances.c.name, instances.c.host_id))
            return {row.name: row.host_id for row in rows}

    async def wanted_in(self) -> set[str]:
        """IDCs that are to hold contents of instances."""
        async with self.database.reading() as connection:
            return set(await connection.scalars(select(wants.c.idc_id).distinct()))
