from __future__ import annotations

from datetime import timedelta

import pytest

from common.clock import ManualClock
from common.errors import Denied, NotFound
from control_plane.agent_rollouts.model import (
    AgentRolloutOver,
    AgentRolloutUnknown,
    Pace,
    Rollout,
    RolloutRequest,
    State,
)
from control_plane.agent_rollouts.reading import AgentRolloutReading
from control_plane.agent_rollouts.service import AgentRolloutService
from control_plane.database import Database
from control_plane.fleet.assigning import LayeredAssignments
from control_plane.fleet.model import HostUnknown, IdcUnknown
from control_plane.instances.model import Phase
from control_plane.preheats.model import Targets
from control_plane.swarm.service import SwarmService
from control_plane.web.paging import PageRequest
from proto.agent.v1 import agent_pb2
from tests.control_plane.agent_rollouts.hosts import AGENT, join, left, says, seen
from tests.control_plane.instances.parts import ADMIN, OPERATOR, VIEWER

pytestmark = pytest.mark.usefixtures("fleet")
ALL = PageRequest(page_size=200)
EVERY_HOST = Targets()
FLEET = ("host-e1", "host-e2", "host-w1")


def asked(targets: Targets = EVERY_HOST, **pace: object) -> RolloutRequest:
    return RolloutRequest(AGENT, "1.4", targets, Pace(**pace))  # type: ignore[arg-type]


async def told(reading: AgentRolloutReading, rollout: Rollout) -> dict[str, int]:
    """Waves by host id."""
    return {one.host_id: one.wave for one in (await reading.hosts(ADMIN, rollout.id, ALL)).items}


async def orders_in(swarm: SwarmService, idc: str) -> int:
    return len((await swarm.orders(f"idc-{idc}", "regional-1")).orders)


async def test_wave_follows_wave_while_all_is_well(
    rollouts: AgentRolloutService,
    reading: AgentRolloutReading,
    assignments: LayeredAssignments,
    swarm: SwarmService,
    database: Database,
    clock: ManualClock,
) -> None:
    await seen(database, clock, *FLEET)
    made = await rollouts.begin(ADMIN, asked())
    (canary,) = await told(reading, made)
    wish = (await assignments.assignments(canary)).assignments[made.id]
    assert wish.desired_state == agent_pb2.DESIRED_STATE_HELD
    assert (wish.agent_update.order, wish.agent_update.version) == (made.order, "1.4")
    assert all(content.token for content in wish.image.contents)
    others = [host for host in FLEET if host != canary]
    for host in others:
        assert not (await assignments.assignments(host)).assignments
    assert sorted([await orders_in(swarm, "east"), await orders_in(swarm, "west")]) == [0, 4]

    await rollouts.carry_on()
    assert len(await told(reading, made)) == 1
    await says(assignments, canary, agent_pb2.PHASE_FETCHING)
    await says(assignments, canary)
    assert await rollouts.carry_on() == 1  # it is settled now
    clock.tick(599)
    await seen(database, clock, *FLEET)
    assert await rollouts.carry_on() == 0
    clock.tick(2)
    await seen(database, clock, *FLEET)
    assert await rollouts.carry_on() == 1
    assert await told(reading, made) == {canary: 1, others[0]: 3, others[1]: 3}

    for host in others:
        await says(assignments, host)
    await rollouts.carry_on()
    clock.tick(601)
    await seen(database, clock, *FLEET)
    await rollouts.carry_on()
    assert (await reading.get(VIEWER, made.id)).state is State.DONE
    assert await rollouts.carry_on() == 0

    assert await rollouts.tell_latecomers() == 0
    await join(database, ["e9"])
    assert await rollouts.tell_latecomers() == 1
    assert (await told(reading, made))["host-e9"] == 3


async def test_a_canary_that_goes_back_halts_it_and_resuming_asks_again(
    rollouts: AgentRolloutService,
    reading: AgentRolloutReading,
    assignments: LayeredAssignments,
    database: Database,
    clock: ManualClock,
) -> None:
    await seen(database, clock, *FLEET)
    made = await rollouts.begin(ADMIN, asked())
    (canary,) = await told(reading, made)
    await says(assignments, canary, agent_pb2.PHASE_FAILED, "the former version runs again: it died")
    assert await rollouts.carry_on() == 1
    halted = await reading.get(VIEWER, made.id)
    assert halted.state is State.HALTED
    assert "it died" in halted.reason
    clock.tick(100_000)
    assert await rollouts.carry_on() == 0
    assert len(await told(reading, made)) == 1

    again = await rollouts.resume(ADMIN, made.id)
    assert (again.state, again.order) == (State.RUNNING, made.order + 1)
    (standing,) = (await reading.hosts(ADMIN, made.id, ALL)).items
    assert standing.phase is Phase.PENDING
    # What it still says of the order before does not count.
    late = agent_pb2.InstanceReport(instance_id=made.id, generation=made.order, phase=agent_pb2.PHASE_FAILED)
    await assignments.accept_reports(canary, [late], [])
    (standing,) = (await reading.hosts(ADMIN, made.id, ALL)).items
    assert standing.phase is Phase.PENDING
    with pytest.raises(AgentRolloutOver):
        await rollouts.resume(ADMIN, made.id)


async def test_a_canary_that_falls_silent_halts_it(
    rollouts: AgentRolloutService,
    reading: AgentRolloutReading,
    database: Database,
    clock: ManualClock,
) -> None:
    await seen(database, clock, *FLEET)
    made = await rollouts.begin(ADMIN, asked())
    (canary,) = await told(reading, made)
    await left(database, canary)
    clock.tick(200)
    assert await rollouts.carry_on() == 0
    clock.tick(200)
    await rollouts.carry_on()
    assert (await reading.get(VIEWER, made.id)).state is State.HALTED


async def test_a_newer_rollout_takes_the_place_of_older_ones_on_its_hosts(
    rollouts: AgentRolloutService,
    reading: AgentRolloutReading,
    assignments: LayeredAssignments,
    database: Database,
    clock: ManualClock,
) -> None:
    await seen(database, clock, *FLEET)
    west = await rollouts.begin(ADMIN, asked(Targets(idcs=("west",))))
    first = await rollouts.begin(ADMIN, asked(Targets(hosts=("east/e1",))))
    second = await rollouts.begin(ADMIN, asked(Targets(idcs=("east",), hosts=("east/e1",))))
    assert (await reading.get(ADMIN, first.id)).state is State.SUPERSEDED
    assert (await reading.get(ADMIN, west.id)).state is State.RUNNING
    assert second.order > first.order
    (wish,) = (await assignments.assignments("host-e1")).assignments.values()
    assert wish.instance_id == second.id
    assert {one.id for one in (await reading.page(VIEWER, ALL)).items} == {west.id, second.id}
    assert len((await reading.page(VIEWER, ALL, ended=True)).items) == 3


async def test_cancelled_it_tells_nobody_any_more(
    rollouts: AgentRolloutService,
    reading: AgentRolloutReading,
    assignments: LayeredAssignments,
    swarm: SwarmService,
    database: Database,
    clock: ManualClock,
) -> None:
    await seen(database, clock, *FLEET)
    made = await rollouts.begin(ADMIN, asked(canaries=3))
    before = (await assignments.assignments("host-e1")).generation
    assert await orders_in(swarm, "west") == 4
    await rollouts.cancel(ADMIN, made.id)
    await rollouts.cancel(ADMIN, made.id)
    after = await assignments.assignments("host-e1")
    assert not after.assignments
    assert after.generation > before
    assert await orders_in(swarm, "west") == 0
    clock.tick(timedelta(days=200).total_seconds())
    assert await rollouts.forget_ended(timedelta(days=180)) == 0  # the newest keeps its number
    again = await rollouts.begin(ADMIN, asked())
    assert again.order == made.order + 1
    assert await rollouts.forget_ended(timedelta(days=180)) == 1


async def test_only_the_platform_admin_changes_versions(rollouts: AgentRolloutService) -> None:
    for principal in (OPERATOR, VIEWER):
        with pytest.raises(Denied):
            await rollouts.begin(principal, asked())
        with pytest.raises(Denied):
            await rollouts.cancel(principal, "x")
        with pytest.raises(Denied):
            await rollouts.resume(principal, "x")


async def test_what_does_not_exist_is_refused_and_changes_nothing(
    rollouts: AgentRolloutService, reading: AgentRolloutReading
) -> None:
    with pytest.raises(IdcUnknown):
        await rollouts.begin(ADMIN, asked(Targets(idcs=("nowhere",))))
    with pytest.raises(HostUnknown):
        await rollouts.begin(ADMIN, asked(Targets(hosts=("east/none",))))
    with pytest.raises(HostUnknown):
        await rollouts.begin(ADMIN, asked(Targets(labels={"rack": "none"})))
    with pytest.raises(NotFound):
        await rollouts.begin(ADMIN, RolloutRequest("acme/agent:9", "9", EVERY_HOST))
    with pytest.raises(AgentRolloutUnknown):
        await reading.get(ADMIN, "nothing")
    assert not (await reading.page(ADMIN, ALL, ended=True)).items
