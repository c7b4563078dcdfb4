from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from common.clock import ManualClock
from common.errors import Denied
from control_plane.database import Database
from control_plane.fleet.model import HostUnknown
from control_plane.fleet.placement.model import HostStanding, NoRoom, Standing
from control_plane.fleet.placement.store import put_standing
from control_plane.instances.model import DesiredState, Mount
from control_plane.instances.reading import InstanceUnknown
from control_plane.instances.service import InstanceService
from control_plane.moves import store
from control_plane.moves.carrying import Carrying
from control_plane.moves.model import MoveImpossible, MoveTooLate, MoveUnderWay, MoveUnknown, Stage
from control_plane.moves.service import MoveInvalid, MoveService
from control_plane.swarm.service import SwarmService
from control_plane.web.paging import PageRequest
from tests.control_plane.instances.parts import OPERATOR, STRANGER, VIEWER, WEB, run_request
from tests.control_plane.moves.parts import GIB, VPS, Fleet
from tests.control_plane.swarm.parts import Shelf, announced, revoke_host

HOUR = timedelta(hours=1)
E1, E2, W1 = "host-e1", "host-e2", "host-w1"


async def running(instances: InstanceService, fleet: Fleet, **spec: Any) -> str:
    """An instance that runs on e1."""
    made = (await instances.run(OPERATOR, run_request("east/e1", name="vps", image=VPS, **spec)))[0].instance.id
    await fleet.obey()
    return made


async def stage_of(service: MoveService, instance_id: str) -> Stage:
    return (await service.get(VIEWER, instance_id)).stage


async def test_an_instance_moves_and_is_removed_where_it_was(
    service: MoveService, instances: InstanceService, fleet: Fleet, database: Database
) -> None:
    made = await running(instances, fleet)
    begun = await service.begin(OPERATOR, made, "east/e2", HOUR)
    assert begun.stage is Stage.STOPPING
    assert (await service.begin(OPERATOR, made, "east/e2", HOUR)).id == begun.id
    await fleet.settle()
    assert await stage_of(service, made) is Stage.DONE
    assert (await fleet.where(), fleet.running, fleet.there) == (
        {"vps": E2},
        {E1: set(), E2: {made}, W1: set()},
        {E1: set(), E2: {made}, W1: set()},
    )
    told = await fleet.told(E2)
    assert not told[made].HasField("take_over")
    assert await fleet.told(E1) == {}
    assert {"instances.moves", "instances.changed", "fleet.assignments_changed"} <= set(await announced(database))


async def test_its_contents_are_wanted_where_it_is(
    service: MoveService, instances: InstanceService, fleet: Fleet
) -> None:
    made = await running(instances, fleet)
    await service.begin(OPERATOR, made, "west/w1", HOUR)
    assert await fleet.wanted_in() == {"idc-east"}
    await fleet.settle()
    assert (await fleet.where(), await fleet.wanted_in()) == ({"vps": W1}, {"idc-west"})
    fleet.unwell.add(E1)
    await service.begin(OPERATOR, made, "east/e1", HOUR)
    await fleet.settle(rounds=40)
    assert await stage_of(service, made) is Stage.FAILED
    assert (await fleet.where(), await fleet.wanted_in()) == ({"vps": W1}, {"idc-west"})


async def test_an_instance_that_is_not_well_there_comes_back(
    service: MoveService, instances: InstanceService, fleet: Fleet
) -> None:
    made = await running(instances, fleet)
    fleet.unwell.add(E2)
    await service.begin(OPERATOR, made, "east/e2", HOUR)
    await fleet.settle(rounds=30)
    move = await service.get(VIEWER, made)
    assert (move.stage, move.ended_at is not None) == (Stage.FAILED, True)
    assert move.why.startswith("it did not run there")
    assert (fleet.running[E1], fleet.there[E2]) == ({made}, set())


async def test_a_target_that_falls_silent_while_it_starts_is_waited_for_until_it_has_stopped_it(
    service: MoveService, instances: InstanceService, fleet: Fleet
) -> None:
    made = await running(instances, fleet)
    await service.begin(OPERATOR, made, "east/e2", HOUR)
    while await stage_of(service, made) is not Stage.STARTING:
        await fleet.settle(rounds=1)
    told = (await fleet.told(E2))[made]
    assert (told.HasField("take_over"), list(told.take_over.addresses)) == (True, [])
    assert told.stop_when_cut_off_seconds == 120
    await fleet.change(E2, session_id=None, last_seen_at=fleet.clock.now())
    await service.cancel(OPERATOR, made)
    await fleet.settle(E1, W1, rounds=50)  # 150 s
    assert (await stage_of(service, made), fleet.running[E1]) == (Stage.RETURNING, set())
    await fleet.settle(E1, W1, rounds=20)
    assert (await stage_of(service, made), fleet.running[E1]) == (Stage.CANCELLED, {made})
    await fleet.obey()  # it is back, and hears of it
    assert fleet.there[E2] == set()


@pytest.mark.parametrize("at", [Stage.STOPPING, Stage.COPYING, Stage.STARTING])
async def test_it_can_be_taken_back_until_it_is_well_there(
    service: MoveService, instances: InstanceService, fleet: Fleet, at: Stage
) -> None:
    made = await running(instances, fleet)
    await service.begin(OPERATOR, made, "east/e2", HOUR)
    while await stage_of(service, made) is not at:
        await fleet.settle(rounds=1)
    await service.cancel(OPERATOR, made)
    await fleet.settle()
    assert (await stage_of(service, made), await fleet.where()) == (Stage.CANCELLED, {"vps": E1})
    assert (fleet.running[E1], fleet.there[E2]) == ({made}, set())
    await service.begin(OPERATOR, made, "east/e2", HOUR)
    await fleet.settle()
    assert (await stage_of(service, made), fleet.running[E2]) == (Stage.DONE, {made})
    with pytest.raises(MoveTooLate):
        await service.cancel(OPERATOR, made)


async def test_another_process_carries_on_where_one_was_killed(
    service: MoveService,
    instances: InstanceService,
    fleet: Fleet,
    database: Database,
    clock: ManualClock,
    swarm: SwarmService,
) -> None:
    made = await running(instances, fleet)
    await service.begin(OPERATOR, made, "west/w1", HOUR)
    while await stage_of(service, made) is not Stage.DONE:
        fleet.carrying = Carrying(database, clock, swarm, service._members.look, lambda: 0.5)
        await fleet.settle(rounds=1)
    assert fleet.running[W1] == {made}


async def test_a_stopped_instance_stays_stopped_and_a_wish_on_the_way_is_heeded(
    service: MoveService, instances: InstanceService, fleet: Fleet
) -> None:
    made = await running(instances, fleet)
    await instances.stop(OPERATOR, made)
    await fleet.obey()
    await service.begin(OPERATOR, made, "east/e2", HOUR)
    await fleet.settle()
    assert (await stage_of(service, made), fleet.there[E2], fleet.running[E2]) == (Stage.DONE, {made}, set())
    await service.begin(OPERATOR, made, "east/e1", HOUR)
    await fleet.settle(rounds=2)
    await instances.start(OPERATOR, made)
    await fleet.settle()
    assert (await stage_of(service, made), fleet.running[E1]) == (Stage.DONE, {made})


@pytest.mark.parametrize(("rounds", "force"), [(1, False), (3, False), (5, False), (3, True)])
async def test_an_instance_that_is_removed_on_the_way_is_gone_from_both_hosts(
    service: MoveService, instances: InstanceService, fleet: Fleet, rounds: int, force: bool
) -> None:
    made = await running(instances, fleet)
    await service.begin(OPERATOR, made, "east/e2", HOUR)
    await fleet.settle(rounds=rounds)
    await instances.remove(OPERATOR, made, force=force)
    await fleet.settle(rounds=20)
    assert (await fleet.where(), fleet.there) == ({}, {E1: set(), E2: set(), W1: set()})
    async with fleet.database.reading() as connection:
        assert await store.open_ids(connection) == []


async def test_a_source_that_is_revoked_leaves_the_instance_at_the_target(
    service: MoveService, instances: InstanceService, fleet: Fleet, database: Database
) -> None:
    made = await running(instances, fleet)
    await service.begin(OPERATOR, made, "east/e2", HOUR)
    while await stage_of(service, made) is not Stage.STARTING:
        await fleet.settle(rounds=1)
    await revoke_host(database, E1)
    await fleet.settle(E2)
    assert (await stage_of(service, made), fleet.running[E2]) == (Stage.DONE, {made})


async def test_what_cannot_move_is_refused_with_its_reason(
    service: MoveService, instances: InstanceService, fleet: Fleet, shelf: Shelf, database: Database
) -> None:
    async def reason(instance_id: str, host: str = "east/e2") -> str:
        with pytest.raises(MoveImpossible) as refused:
            await service.begin(OPERATOR, instance_id, host, HOUR)
        return str(refused.value.facts["reason"])

    made = await running(instances, fleet)
    shelf.put_image(WEB, b"layer")
    docker = (await instances.run(OPERATOR, run_request("east/e1", name="web")))[0].instance.id
    mounts = (Mount("data", "/data"),)
    volumes = (await instances.run(OPERATOR, run_request("east/e1", name="v", image=VPS, mounts=mounts)))[0].instance.id
    wished = DesiredState.HELD
    held = (await instances.run(OPERATOR, run_request("east/e1", name="h", image=VPS, desired_state=wished)))[0]
    assert [await reason(one) for one in (docker, volumes, held.instance.id)] == ["engine", "volumes", "held"]
    assert await reason(made, "east/e1") == "same_host"
    await instances.run(OPERATOR, run_request("east/e2", name="vps", image=VPS))
    assert await reason(made) == "name"
    await fleet.change(W1, facts={"architecture": "arm64", "engines": [{"kind": "lxd"}]})
    assert await reason(made, "west/w1") == "architecture"
    await fleet.change(W1, facts={"architecture": "amd64", "engines": [{"kind": "docker"}]})
    assert await reason(made, "west/w1") == "engine"
    await fleet.change(W1, session_id=None)
    assert await reason(made, "west/w1") == "away"
    async with database.transaction() as unit:
        await put_standing(unit.connection, W1, HostStanding(Standing.CORDONED), unit.clock.now())
    assert await reason(made, "west/w1") == "closed"
    await revoke_host(database, W1)
    assert await reason(made, "west/w1") == "revoked"
    await fleet.change(E1, session_id=None)
    assert await reason(made) == "source_away"
    assert (await fleet.where())["vps"] in (E1, E2)
    with pytest.raises(MoveUnknown):
        await service.get(VIEWER, made)


async def test_room_is_counted_when_it_begins_and_again_before_it_is_there(
    service: MoveService, instances: InstanceService, fleet: Fleet
) -> None:
    made = await running(instances, fleet, memory_bytes=5 * GIB)
    await instances.run(OPERATOR, run_request("west/w1", name="big", image=VPS, memory_bytes=6 * GIB))
    with pytest.raises((MoveImpossible, NoRoom)):
        await service.begin(OPERATOR, made, "west/w1", HOUR)
    await service.begin(OPERATOR, made, "east/e2", HOUR)
    await instances.run(OPERATOR, run_request("east/e2", name="big", image=VPS, memory_bytes=6 * GIB))
    await fleet.settle()
    assert (await stage_of(service, made), fleet.running[E1]) == (Stage.FAILED, {made})
    assert "memory" in (await service.get(VIEWER, made)).why


async def test_a_name_that_is_taken_at_the_target_meanwhile_takes_it_back(
    service: MoveService, instances: InstanceService, fleet: Fleet
) -> None:
    made = await running(instances, fleet)
    await service.begin(OPERATOR, made, "east/e2", HOUR)
    await instances.run(OPERATOR, run_request("east/e2", name="vps", image=VPS))
    await fleet.settle()
    assert (await stage_of(service, made), fleet.running[E1]) == (Stage.FAILED, {made})


async def test_who_may_not_change_it_moves_nothing(
    service: MoveService, instances: InstanceService, fleet: Fleet
) -> None:
    made = await running(instances, fleet)
    with pytest.raises(Denied):
        await service.begin(VIEWER, made, "east/e2", HOUR)
    for call in (service.begin(STRANGER, made, "east/e2", HOUR), service.cancel(STRANGER, made)):
        with pytest.raises(InstanceUnknown):
            await call
    with pytest.raises(HostUnknown):
        await service.begin(OPERATOR, made, "east/e9", HOUR)
    with pytest.raises(MoveInvalid):
        await service.begin(OPERATOR, made, "east/e2", timedelta(0))
    await service.begin(OPERATOR, made, "east/e2", HOUR)
    with pytest.raises(MoveUnderWay):
        await service.begin(OPERATOR, made, "west/w1", HOUR)
    assert [one.name for one in (await service.page(VIEWER, PageRequest(), open_only=True)).items] == ["vps"]
    assert (await service.page(STRANGER, PageRequest())).items == []


async def test_outcomes_are_forgotten_in_time(service: MoveService, instances: InstanceService, fleet: Fleet) -> None:
    made = await running(instances, fleet)
    await service.begin(OPERATOR, made, "east/e2", HOUR)
    await fleet.clock.advance(86_400)
    assert await service.forget(HOUR) == 0
    await fleet.settle()
    await fleet.clock.advance(86_400)
    assert await service.forget(HOUR) == 1
