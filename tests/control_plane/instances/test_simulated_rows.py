"""The simulated rows do what the database does: the same wishes and reports leave both with the same answers."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from common.clock import ManualClock
from control_plane.database import Database
from control_plane.fleet import store as fleet_store
from control_plane.fleet.assigning import LayeredAssignments
from control_plane.fleet.desired import AssignmentSnapshot
from control_plane.instances import store, transitions
from control_plane.instances.assignments import InstanceAssignments
from control_plane.instances.forgetting import forget
from control_plane.instances.model import DesiredState, Instance, Status
from control_plane.jobs.service import JobService
from control_plane.queues.memory import MemoryQueue
from control_plane.sealing import SealedBox
from control_plane.swarm.keys import ContentKeys
from control_plane.swarm.provenance_metrics import SwarmMetrics
from control_plane.swarm.service import SwarmService
from control_plane.swarm.tokens import ContentTokens
from proto.agent.v1 import agent_pb2
from tests.control_plane.instances.parts import said
from tests.control_plane.swarm.fixtures import ring
from tests.control_plane.swarm.parts import Shelf, add_host, add_idc
from tests.simulation.plane import Rows
from tests.simulation.scenario import image, new_instance

HOSTS = ("host-a", "host-b")
PHASES = [agent_pb2.PHASE_FETCHING, agent_pb2.PHASE_RUNNING, agent_pb2.PHASE_STOPPED, agent_pb2.PHASE_REMOVED, 99]


class Both:
    """One history, on the simulated rows and on the real tables."""

    def __init__(self, database: Database, keys: ContentKeys, clock: ManualClock, chance: random.Random) -> None:
        tokens = ContentTokens(keys, clock)
        jobs, metrics = JobService(database, MemoryQueue(), clock), SwarmMetrics(CollectorRegistry())
        self.swarm = SwarmService(database, tokens, Shelf(), jobs, metrics)
        self.real = LayeredAssignments(database, InstanceAssignments(database, tokens, self.swarm))
        self.rows = Rows(clock, lambda host_id: None)
        for host_id in HOSTS:
            self.rows.add_host(host_id)
        self.database = database
        self.clock = clock
        self.chance = chance
        self.held: dict[str, Mapping[str, agent_pb2.Assignment]] = {}

    async def step(self, number: int) -> None:
        known = list(self.rows.instances.values())
        if not known or self.chance.random() < 0.2:
            await self.add(
                new_instance(self.chance.choice(HOSTS), f"web-{number}", image(1), self.clock.now(), self.chance)
            )
        elif self.chance.random() < 0.5:
            await self.wish(self.chance.choice(known))
        else:
            await self.report(known)
        self.clock.tick(self.chance.randrange(60))
        await self.compare()

    async def add(self, instance: Instance) -> None:
        self.rows.put(instance)
        async with self.database.transaction() as unit:
            assert await store.add(unit.connection, [instance])
            await fleet_store.bump_assignments(unit.connection, [instance.host_id])

    async def wish(self, instance: Instance) -> None:
        verb = self.chance.choice([transitions.removed, transitions.stopped, transitions.restarted, None])
        if verb is None:
            self.rows.forget(instance)
            async with self.database.transaction() as unit:
                await forget(unit, instance.wish, self.swarm)
        elif instance.desired_state is not DesiredState.REMOVED:
            changed = verb(instance, self.clock.now())
            if changed != instance:
                self.rows.put(changed)
                async with self.database.transaction() as unit:
                    await store.put_desired(unit.connection, changed)
                    await fleet_store.bump_assignments(unit.connection, [instance.host_id])

    async def report(self, known: list[Instance]) -> None:
        """Also of others' instances, of generations that never were, and twice of one."""
        reports = [
            said(one.id, max(0, one.generation + self.chance.randrange(-2, 2)), self.chance.choice(PHASES))  # type: ignore[arg-type]
            for one in self.chance.choices(known, k=self.chance.randrange(1, 5))
        ]
        host_id = self.chance.choice(HOSTS)
        await self.rows.accept_reports(host_id, reports, [])
        await self.real.accept_reports(host_id, reports, [])

    async def compare(self) -> None:
        for host_id in HOSTS:
            simulated, real = await self.rows.assignments(host_id), await self.real.assignments(host_id)
            assert (simulated.generation, _shown(simulated)) == (real.generation, _shown(real))
            # What is told after an earlier picture is the same, made of the earlier one where that still holds.
            held = self.held.get(host_id, {})
            after = await self.real.assignments(host_id, held)
            assert after == real
            assert all(after.assignments[key] is one for key, one in held.items() if real.assignments.get(key) == one)
            self.held[host_id] = after.assignments
            async with self.database.reading() as connection:
                found = await store.of_host(connection, host_id, list(self.rows.instances))
            statuses = {key: self.rows.statuses.get(key, Status()) for key in found}
            assert {key: status for key, (_, status) in found.items()} == statuses


def _shown(snapshot: AssignmentSnapshot) -> Mapping[str, Any]:
    return {key: (one.generation, one.desired_state, one.restart_nonce) for key, one in snapshot.assignments.items()}


@pytest.mark.parametrize("seed", range(3))
async def test_the_simulated_rows_answer_as_the_tables_do(sqlite_url: str, seed: int) -> None:
    clock = ManualClock()
    database = Database(sqlite_url, clock)
    try:
        await add_idc(database, "east")
        for name in ("a", "b"):
            await add_host(database, "east", name)
        keys = ContentKeys(database, SealedBox(ring()), clock)
        await keys.load()
        both = Both(database, keys, clock, random.Random(seed))
        for number in range(80):
            await both.step(number)
    finally:
        await database.close()
