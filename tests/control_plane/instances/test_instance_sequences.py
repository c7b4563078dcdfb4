"""Whole lives of an instance, made up by hypothesis, on a real database and against the real services."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from common.clock import ManualClock
from control_plane.database import Database
from control_plane.fleet.assigning import LayeredAssignments
from control_plane.fleet.desired import AssignmentSnapshot, OrderSnapshot
from control_plane.instances.assignments import InstanceAssignments
from control_plane.instances.model import DesiredState
from control_plane.instances.reading import InstanceReading, InstanceUnknown
from control_plane.instances.service import InstanceService
from control_plane.instances.transitions import InstanceBeingRemoved
from control_plane.jobs.service import JobService
from control_plane.queues.memory import MemoryQueue
from control_plane.sealing import SealedBox
from control_plane.swarm.keys import ContentKeys
from control_plane.swarm.provenance_metrics import SwarmMetrics
from control_plane.swarm.service import SwarmService
from control_plane.swarm.tokens import ContentTokens
from proto.agent.v1 import agent_pb2
from tests.control_plane.instances.parts import OPERATOR, WEB, run_request, said
from tests.control_plane.swarm.fixtures import ring
from tests.control_plane.swarm.parts import Shelf, Tenants, add_host, add_idc

PHASES = [agent_pb2.PHASE_FETCHING, agent_pb2.PHASE_RUNNING, agent_pb2.PHASE_STOPPED, agent_pb2.PHASE_REMOVED]
verbs = st.sampled_from(["run", "run held", "start", "stop", "restart", "remove", "force", "wait"])
reports = st.tuples(st.integers(1, 8), st.sampled_from(PHASES))


class Life:
    """One host, one name; every step is checked against what was seen before it."""

    def __init__(self, database: Database, clock: ManualClock, keys: ContentKeys) -> None:
        tokens = ContentTokens(keys, clock)
        shelf = Shelf()
        shelf.put_image(WEB, b"layer")
        self.clock = clock
        jobs, metrics = JobService(database, MemoryQueue(), clock), SwarmMetrics(CollectorRegistry())
        self.swarm = SwarmService(database, tokens, shelf, jobs, metrics)
        self.reading = InstanceReading(database, self.swarm)
        self.service = InstanceService(database, clock, shelf, Tenants("acme"), self.swarm, self.reading)
        self.assignments = LayeredAssignments(database, InstanceAssignments(database, tokens, self.swarm))
        self.instance_id = ""
        self.generation = 0
        self.observed = 0
        self.sets: dict[int, AssignmentSnapshot] = {}
        self.orders: dict[int, OrderSnapshot] = {}

    async def step(self, step: str | tuple[int, agent_pb2.Phase.ValueType]) -> None:
        if step == "wait":
            # Within one token window: 40 steps of 10 minutes are less than 12 hours.
            self.clock.tick(600)
        elif isinstance(step, tuple):
            await self.assignments.accept_reports("host-e1", [said(self.instance_id, *step)], [])
        elif step in ("run", "run held"):
            await self.run(DesiredState.HELD if step == "run held" else DesiredState.RUNNING)
        else:
            await self.verb(step)
        await self.check()

    async def run(self, desired_state: DesiredState) -> None:
        try:
            (view,) = await self.service.run(OPERATOR, run_request("east/e1", desired_state=desired_state))
        except InstanceBeingRemoved:
            return
        if view.instance.id != self.instance_id:
            self.instance_id, self.generation, self.observed = view.instance.id, 0, 0

    async def verb(self, verb: str) -> None:
        verbs: dict[str, Callable[[], object]] = {
            "start": lambda: self.service.start(OPERATOR, self.instance_id),
            "stop": lambda: self.service.stop(OPERATOR, self.instance_id),
            "restart": lambda: self.service.restart(OPERATOR, self.instance_id),
            "remove": lambda: self.service.remove(OPERATOR, self.instance_id),
            "force": lambda: self.service.remove(OPERATOR, self.instance_id, force=True),
        }
        try:
            await verbs[verb]()  # type: ignore[misc]
        except (InstanceBeingRemoved, InstanceUnknown):
            return

    async def check(self) -> None:
        snapshot = await self.assignments.assignments("host-e1")
        orders = await self.swarm.orders("idc-east", "regional-er")
        assert self.sets.setdefault(snapshot.generation, snapshot) == snapshot
        assert self.orders.setdefault(orders.generation, orders) == orders
        assert max(self.sets) == snapshot.generation
        assert max(self.orders) == orders.generation
        assert bool(snapshot.assignments) == bool(orders.orders)
        if self.instance_id not in snapshot.assignments:
            assert snapshot.assignments == {}
            return
        view = await self.reading.get(OPERATOR, self.instance_id)
        assert snapshot.assignments[self.instance_id].generation == view.instance.generation
        assert self.generation <= view.instance.generation <= self.generation + 1
        assert self.observed <= view.status.observed_generation <= view.instance.generation
        self.generation, self.observed = view.instance.generation, view.status.observed_generation


@pytest.fixture
def live(sqlite_url: str, tmp_path: Path) -> Callable[[list[object]], None]:
    """Each example begins with a copy of an empty database; PostgreSQL runs the same queries in the other tests."""
    template = Path(sqlite_url.removeprefix("sqlite:///"))

    async def lived(path: Path, steps: list[object]) -> None:
        clock = ManualClock()
        database = Database(f"sqlite:///{path}", clock)
        try:
            await add_idc(database, "east")
            await add_host(database, "east", "e1")
            keys = ContentKeys(database, SealedBox(ring()), clock)
            await keys.load()
            life = Life(database, clock, keys)
            await life.step("run")
            for step in steps:
                await life.step(step)  # type: ignore[arg-type]
        finally:
            await database.close()

    def run(steps: list[object]) -> None:
        path = tmp_path / "example.db"
        for left in tmp_path.glob("example.db*"):
            left.unlink()
        shutil.copy(template, path)
        asyncio.run(lived(path, steps))

    return run


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(verbs, reports), max_size=25))
def test_generations_only_grow_and_equal_generations_are_equal_sets(
    live: Callable[[list[object]], None], steps: list[object]
) -> None:
    live(steps)
