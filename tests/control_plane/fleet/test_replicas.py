"""Two replicas of the control plane over one real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.events.memory import MemoryEventBus
from tests.control_plane.fleet.edge import Edge, eventually
from tests.control_plane.fleet.plane import Plane


@pytest.fixture
async def replicas(postgresql_url: str) -> AsyncIterator[tuple[Plane, Plane]]:
    bus = MemoryEventBus()
    async with Plane(postgresql_url, bus=bus) as one, Plane(postgresql_url, bus=bus) as other:
        yield one, other


@pytest.fixture
async def agent(replicas: tuple[Plane, Plane], tmp_path: Path) -> Edge:
    made = Edge(replicas[0], tmp_path / "e1")
    await made.enrol(await replicas[0].join_token())
    return made


async def test_what_is_changed_at_one_replica_reaches_the_agents_of_the_other(
    replicas: tuple[Plane, Plane], agent: Edge
) -> None:
    one, other = replicas
    other.desired.wanted, other.desired.generations = one.desired.wanted, one.desired.generations
    async with agent.attached():
        generation = await other.desired.assign(agent.id, web=1)
        await eventually(lambda: agent.held.generation == generation)
        assert await other.state("east/e1") == "online"
        await other.fleet.members.revoke("host", "east/e1")
        await eventually(lambda: agent.failures)

    assert agent.failures[0].code == "identity_revoked"


async def test_an_agent_that_moves_to_another_replica_is_let_go_by_the_first(
    replicas: tuple[Plane, Plane], agent: Edge
) -> None:
    one, other = replicas
    moved = Edge(other, agent.directory, process_id=agent.process_id)
    async with agent.attached(), moved.attached():
        await eventually(lambda: agent.failures)
        await eventually(lambda: one.fleet.sessions.find("host", agent.id) is None)
        await one.fleet.presence.flush()
        member = (await other.fleet.members.get("host", agent.id)).member
        assert member.session_replica == other.fleet.presence.replica_id
        assert await one.state("east/e1") == "online"

    assert agent.failures[0].code == "stream_replaced"


async def test_a_lost_event_of_a_newer_session_is_made_up_for_by_the_poll(
    replicas: tuple[Plane, Plane], agent: Edge
) -> None:
    one, _ = replicas
    async with agent.attached():
        async with one.database.transaction() as unit:
            await unit.connection.exec_driver_sql("UPDATE hosts SET session_replica = 'elsewhere'")
        await one.fleet.watch._poll()
        await eventually(lambda: agent.failures)

    assert agent.failures[0].code == "stream_replaced"


async def test_regionals_that_attach_elsewhere_are_told_here(
    replicas: tuple[Plane, Plane], agent: Edge, tmp_path: Path
) -> None:
    one, other = replicas
    regional = Edge(other, tmp_path / "r1", kind="regional")
    await regional.enrol(await one.join_token("regional"), "r1", addresses=["127.0.0.1"])
    async with agent.attached(), regional.attached():
        await eventually(lambda: agent.regionals() == ["https://127.0.0.1:9443"])
