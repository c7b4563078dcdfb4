"""A fleet whose hosts do what they are told when the test lets them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select, update

from common.clock import ManualClock
from control_plane.database import Database
from control_plane.deployments.converging import Converging
from control_plane.deployments.model import DeploymentRequest
from control_plane.fleet.assigning import LayeredAssignments
from control_plane.fleet.placement.model import Rules
from control_plane.fleet.tables import hosts
from control_plane.instances.model import DesiredState, InstanceSpec
from control_plane.instances.tables import instances
from proto.agent.v1 import agent_pb2
from tests.control_plane.instances.parts import WEB, said
from tests.control_plane.swarm.parts import add_host, revoke_host

GIB = 1 << 30
_SAYS = {
    agent_pb2.DESIRED_STATE_RUNNING: agent_pb2.PHASE_RUNNING,
    agent_pb2.DESIRED_STATE_HELD: agent_pb2.PHASE_VERIFIED,
    agent_pb2.DESIRED_STATE_STOPPED: agent_pb2.PHASE_STOPPED,
    agent_pb2.DESIRED_STATE_REMOVED: agent_pb2.PHASE_REMOVED,
}


def deployment(name: str = "web", rules: Rules | None = None, **more: Any) -> DeploymentRequest:
    known = {
        key: more.pop(key) for key in ("reschedule_after_seconds", "state_may_be_lost", "exclusive") if key in more
    }
    state = more.pop("desired_state", DesiredState.RUNNING)
    return DeploymentRequest("acme", name, WEB, InstanceSpec(**more), rules or Rules(), state, **known)


class Fleet:
    def __init__(
        self, database: Database, clock: ManualClock, assignments: LayeredAssignments, converging: Converging
    ) -> None:
        self.database = database
        self.clock = clock
        self.converging = converging
        self._assignments = assignments
        # What runs now, by host: instance ids.
        self.running: dict[str, set[str]] = {}
        self.most_at_once: Counter[str] = Counter()
        self.broken: set[str] = set()  # tags of images that do not start
        self.said_running: set[str] = set()

    async def host(self, idc: str, name: str, **more: Any) -> str:
        host_id = await add_host(self.database, idc, name, **more)
        facts = {"architecture": "amd64", "cpus": 4, "memory_bytes": 8 * GIB, "engines": [{"kind": "docker"}]}
        await self.change(host_id, facts=facts, session_id=f"s-{name}", last_seen_at=self.clock.now())
        self.running[host_id] = set()
        return host_id

    async def change(self, host_id: str, **values: Any) -> None:
        async with self.database.transaction() as unit:
            await unit.connection.execute(update(hosts).where(hosts.c.id == host_id).values(**values))

    async def cut_off(self, host_id: str) -> None:
        await self.change(host_id, session_id=None, last_seen_at=self.clock.now())

    async def revoke(self, host_id: str) -> None:
        await revoke_host(self.database, host_id)

    async def pass_time(self, seconds: float, *here: str) -> None:
        """Hosts in `here` are seen all the time."""
        await self.clock.advance(seconds)
        for host_id in here:
            await self.change(host_id, last_seen_at=self.clock.now())

    async def obey(self, *host_ids: str) -> None:
        """Hosts do what they are told, and say so. All of them, unless some are named."""
        for host_id in host_ids or self.running:
            told = (await self._assignments.assignments(host_id)).assignments
            self.said_running -= self.running[host_id]
            self.running[host_id] = {
                one for one, each in told.items() if each.desired_state == agent_pb2.DESIRED_STATE_RUNNING
            }
            bad = {one for one, each in told.items() if each.image.tag in self.broken}
            self.said_running |= self.running[host_id] - bad
            reports = [
                said(one, each.generation, _SAYS[each.desired_state])
                if one not in bad or each.desired_state == agent_pb2.DESIRED_STATE_REMOVED
                else said(one, each.generation, agent_pb2.PHASE_FAILED, detail="it does not start")
                for one, each in told.items()
            ]
            await self._assignments.accept_reports(host_id, reports, [])
            names = await self.names()
            alive = Counter(names.get(one, "gone") for of_host in self.running.values() for one in of_host)
            self.most_at_once |= alive

    async def settle(self, *host_ids: str, rounds: int = 8) -> None:
        """Looks and obedience in turn, until nothing is left to do."""
        for _ in range(rounds):
            await self.clock.advance(1.5)
            await self.converging.once()
            await self.obey(*host_ids)

    async def names(self) -> Mapping[str, str]:
        async with self.database.reading() as connection:
            rows = await connection.execute(select(instances.c.id, instances.c.name))
            return {row.id: row.name for row in rows}

    async def where(self, *, wanted: Sequence[str] = ("running", "held", "stopped")) -> dict[str, str]:
        """Name -> host of the instances that are wanted there."""
        async with self.database.reading() as connection:
            rows = await connection.execute(
                select(instances.c.name, instances.c.host_id).where(instances.c.desired_state.in_(wanted))
            )
            return {row.name: row.host_id for row in rows}
