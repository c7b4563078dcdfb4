"""Rollouts of deployments over real rows: what is told to hosts, what is kept, and who may."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from common.errors import Denied, NotFound
from control_plane.audit.tables import inbox
from control_plane.database import Database
from control_plane.deployments.converging import Converging
from control_plane.deployments.model import (
    NothingToUndo,
    OnFailure,
    Pace,
    RolloutInvalid,
    RolloutOver,
    RolloutState,
)
from control_plane.deployments.reading import DeploymentReading, DeploymentUnknown
from control_plane.deployments.rollouts import RolloutService, Wish
from control_plane.deployments.service import DeploymentBeingRemoved, DeploymentService
from control_plane.fleet.placement.model import NoRoom, Rules
from control_plane.instances.model import InstanceSpec, Mount
from control_plane.instances.rules import SpecInvalid
from control_plane.swarm.service import SwarmService
from control_plane.web.paging import PageRequest
from tests.control_plane.deployments.parts import GIB, Fleet, deployment
from tests.control_plane.instances.parts import ADMIN, OPERATOR, STRANGER, VIEWER, WEB
from tests.control_plane.swarm.parts import Shelf

NEXT = "acme/web:2"
BROKEN = "acme/web:broken"
ALL = PageRequest()
PACE = Pace(healthy=timedelta(seconds=1))


@pytest.fixture(autouse=True)
def more_images(shelf: Shelf) -> None:
    shelf.put_image(NEXT, b"base", b"web two")
    shelf.put_image(BROKEN, b"base", b"web broken")


async def made(service: DeploymentService, fleet: Fleet, count: int = 3, **more: Any) -> str:
    found = await service.create(OPERATOR, deployment(rules=Rules(count), **more))
    await fleet.settle()
    return found


async def images(fleet: Fleet) -> Counter[str]:
    told = [await fleet._assignments.assignments(host) for host in fleet.running]
    return Counter(each.image.tag for one in told for each in one.assignments.values())


async def test_another_image_comes_to_one_instance_after_the_other(
    service: DeploymentService, rollouts: RolloutService, fleet: Fleet
) -> None:
    name = await made(service, fleet)
    before = await fleet.names()
    view = await rollouts.revise(OPERATOR, "acme/web", Wish(NEXT, pace=PACE))
    assert (view.deployment.revision, view.deployment.rollout.state) == (2, RolloutState.GOING)
    seen = [await images(fleet)]
    for _ in range(8):
        await fleet.settle(rounds=1)
        seen.append(await images(fleet))
    assert [dict(one) for one in seen[:1]] == [{"1.4": 2, "2": 1}]
    assert all(0 <= later["2"] - sooner["2"] <= 1 for sooner, later in itertools.pairwise(seen))
    assert seen[-1] == {"2": 3}
    assert await fleet.names() == before, "they are changed where they are"
    view = await rollouts._reading.get(VIEWER, name)
    assert (view.deployment.rollout.state, view.deployment.rollout.base) == (RolloutState.FINISHED, 2)
    assert [slot.revision for slot in view.slots] == [2, 2, 2]
    assert view.deployment.look_at is None


async def test_contents_of_the_new_image_are_wanted_and_those_of_the_old_are_not(
    service: DeploymentService, rollouts: RolloutService, fleet: Fleet, swarm: SwarmService
) -> None:
    await made(service, fleet, 1)
    wanted_before = {one for host in ("idc-east", "idc-west") for one in (await swarm.orders(host, "r")).orders}
    await rollouts.revise(OPERATOR, "acme/web", Wish(NEXT, pace=PACE))
    wanted = {one for host in ("idc-east", "idc-west") for one in (await swarm.orders(host, "r")).orders}
    assert wanted - wanted_before, "the new layer"
    assert wanted_before - wanted, "the old layer"
    assert wanted & wanted_before, "what they share"


async def test_a_bad_image_stops_is_told_about_and_is_undone(
    service: DeploymentService, rollouts: RolloutService, fleet: Fleet
) -> None:
    name = await made(service, fleet)
    fleet.broken.add("broken")
    await rollouts.revise(OPERATOR, name, Wish(BROKEN, pace=PACE))
    await fleet.settle()
    view = await rollouts._reading.get(VIEWER, name)
    assert view.deployment.rollout.state is RolloutState.PAUSED
    assert "it does not start" in view.deployment.rollout.reason
    assert (await images(fleet))["broken"] == 1
    view = await rollouts.undo(OPERATOR, name)
    assert view.deployment.revision == 3
    await fleet.settle(rounds=12)
    assert await images(fleet) == {"1.4": 3}
    history = await rollouts.history(VIEWER, name)
    assert [one.number for one in history] == [3, 2, 1]
    assert [one.finished_at is not None for one in history] == [True, False, True]
    assert history[0].cause == "undoes 2, back to 1"
    with pytest.raises(NothingToUndo):
        await rollouts.undo(OPERATOR, name)
    assert (await rollouts.undo(OPERATOR, name, 2)).deployment.reference == BROKEN


async def test_a_failure_is_undone_by_itself_if_that_is_wished(
    service: DeploymentService, rollouts: RolloutService, fleet: Fleet
) -> None:
    name = await made(service, fleet)
    fleet.broken.add("broken")
    pace = Pace(healthy=timedelta(seconds=1), on_failure=OnFailure.UNDO)
    await rollouts.revise(OPERATOR, name, Wish(BROKEN, pace=pace))
    await fleet.settle(rounds=16)
    view = await rollouts._reading.get(VIEWER, name)
    assert (view.deployment.rollout.state, view.deployment.revision) == (RolloutState.FINISHED, 3)
    assert await images(fleet) == {"1.4": 3}
    assert "undoes 2, which failed: web-" in (await rollouts.history(VIEWER, name))[0].cause


async def test_one_more_is_there_meanwhile_where_a_host_has_room(
    service: DeploymentService, rollouts: RolloutService, fleet: Fleet
) -> None:
    name = await made(service, fleet, 2)
    pace = Pace(max_unavailable=0, max_surge=1, healthy=timedelta(seconds=1))
    await rollouts.revise(OPERATOR, name, Wish(NEXT, pace=pace))
    assert await images(fleet) == {"1.4": 2, "2": 1}
    least = 3
    for _ in range(20):
        await fleet.settle(rounds=1)
        least = min(least, len(fleet.said_running))
    assert least >= 2
    assert await images(fleet) == {"2": 2}


async def test_a_rollout_is_paused_resumed_and_survives_the_control_plane(
    service: DeploymentService, rollouts: RolloutService, fleet: Fleet, another_replica: Converging
) -> None:
    name = await made(service, fleet)
    await rollouts.revise(OPERATOR, name, Wish(NEXT, pace=PACE))
    paused = await rollouts.pause(OPERATOR, name)
    assert paused.deployment.rollout.reason == f"paused by {OPERATOR.name}"
    await rollouts.pause(OPERATOR, name)
    await fleet.settle()
    assert await images(fleet) == {"1.4": 2, "2": 1}
    await rollouts.resume(OPERATOR, name)
    fleet.converging = another_replica
    await fleet.settle(rounds=12)
    assert await images(fleet) == {"2": 3}
    for over in (rollouts.pause, rollouts.resume):
        with pytest.raises(RolloutOver):
            await over(OPERATOR, name)


async def test_another_specification_is_rolled_out_and_asks_for_its_room(
    service: DeploymentService, rollouts: RolloutService, reading: DeploymentReading, fleet: Fleet
) -> None:
    name = await made(service, fleet, memory_bytes=GIB)
    await rollouts.revise(OPERATOR, name, Wish(spec=InstanceSpec(memory_bytes=2 * GIB), pace=PACE))
    await fleet.settle(rounds=12)
    used = [one.used.memory_bytes for one in (await reading.room(VIEWER, None, ALL)).items]
    assert used == [2 * GIB] * 3
    with pytest.raises(NoRoom):
        await rollouts.revise(OPERATOR, name, Wish(spec=InstanceSpec(memory_bytes=99 * GIB)))
    with pytest.raises(SpecInvalid):
        await rollouts.revise(OPERATOR, name, Wish(spec=InstanceSpec(memory_bytes=1)))


async def test_what_runs_already_begins_nothing(
    service: DeploymentService, rollouts: RolloutService, fleet: Fleet
) -> None:
    name = await made(service, fleet)
    assert (await rollouts.revise(OPERATOR, name, Wish(WEB))).deployment.revision == 1
    assert len(await rollouts.history(VIEWER, name)) == 1


async def test_a_new_slot_during_a_rollout_begins_with_what_is_known_to_be_well(
    service: DeploymentService, rollouts: RolloutService, fleet: Fleet
) -> None:
    name = await made(service, fleet, 1)
    fleet.broken.add("broken")
    await rollouts.revise(OPERATOR, name, Wish(BROKEN, pace=PACE))
    await fleet.settle()
    await service.place(OPERATOR, name, Rules(3))
    await fleet.settle()
    assert await images(fleet) == {"1.4": 2, "broken": 1}


@pytest.mark.parametrize(
    ("pace", "field"),
    [
        (Pace(max_unavailable=0), "max_unavailable"),
        (Pace(max_unavailable=-1), "max_unavailable"),
        (Pace(canaries=10_001), "canaries"),
        (Pace(healthy=timedelta(hours=2)), "healthy_seconds"),
        (Pace(patience=timedelta(seconds=10)), "patience_seconds"),
        (Pace(max_surge=1), "max_surge"),
    ],
)
async def test_a_pace_that_cannot_be_meant_is_refused(
    service: DeploymentService, rollouts: RolloutService, fleet: Fleet, pace: Pace, field: str
) -> None:
    name = await made(service, fleet, 1, mounts=(Mount("d", "/d"),))
    with pytest.raises(RolloutInvalid) as refused:
        await rollouts.revise(OPERATOR, name, Wish(NEXT, pace=pace))
    assert refused.value.facts["field"] == field
    assert await images(fleet) == {"1.4": 1}


async def test_others_may_not(service: DeploymentService, rollouts: RolloutService, fleet: Fleet) -> None:
    name = await made(service, fleet, 1)
    for act in (rollouts.undo, rollouts.pause, rollouts.resume):
        with pytest.raises(Denied):
            await act(VIEWER, name)
        with pytest.raises(DeploymentUnknown):
            await act(STRANGER, name)
    with pytest.raises(Denied):
        await rollouts.revise(VIEWER, name, Wish(NEXT))
    with pytest.raises(DeploymentUnknown):
        await rollouts.history(STRANGER, name)
    with pytest.raises(Denied):
        await rollouts.revise(OPERATOR, name, Wish(spec=InstanceSpec(privileged=True)))
    with pytest.raises(NotFound):
        await rollouts.revise(OPERATOR, name, Wish("acme/none:1"))
    await rollouts.revise(ADMIN, name, Wish(spec=InstanceSpec(privileged=True), pace=PACE))
    with pytest.raises(Denied):
        await rollouts.revise(OPERATOR, name, Wish(NEXT))
    await service.remove(OPERATOR, name)
    with pytest.raises(DeploymentBeingRemoved):
        await rollouts.revise(ADMIN, name, Wish(NEXT))


async def test_who_changed_what_is_written_down(
    service: DeploymentService, rollouts: RolloutService, fleet: Fleet, database: Database
) -> None:
    name = await made(service, fleet, 1)
    await rollouts.revise(OPERATOR, name, Wish(NEXT, pace=PACE))
    await rollouts.pause(OPERATOR, name)
    async with database.reading() as connection:
        rows = await connection.execute(select(inbox.c.entry).order_by(inbox.c.id))
        entries = [row.entry for row in rows]
    assert [one["operation"] for one in entries] == [
        "deployment.made",
        "deployment.revised",
        "deployment.rollout_paused",
    ]
