from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from common.clock import ManualClock
from common.errors import Conflict, Denied, NotFound
from control_plane.database import Database
from control_plane.deployments.converging import fence_seconds
from control_plane.deployments.reading import DeploymentReading, DeploymentUnknown, Leaving
from control_plane.deployments.service import DeploymentBeingRemoved, DeploymentExists, DeploymentService
from control_plane.fleet.placement.model import (
    CapacityPolicy,
    HostClosed,
    NoRoom,
    Operator,
    PlacementInvalid,
    Requirement,
    Rules,
    ScopeKind,
    Spread,
    Standing,
)
from control_plane.fleet.placement.service import HostPlaces
from control_plane.instances.model import AdoptionWish, Mount
from control_plane.instances.service import InstanceService
from control_plane.web.paging import PageRequest
from tests.control_plane.deployments.parts import GIB, Fleet, deployment
from tests.control_plane.instances.parts import ADMIN, OPERATOR, STRANGER, VIEWER, WEB, run_request
from tests.control_plane.swarm.parts import Shelf, announced

LABELS = {"host-e1": "east/e1", "host-e2": "east/e2", "host-w1": "west/w1"}
EVERYBODY = tuple(LABELS)


async def test_so_many_instances_are_spread_over_the_data_centres(
    service: DeploymentService, reading: DeploymentReading, fleet: Fleet
) -> None:
    made = await service.create(OPERATOR, deployment(rules=Rules(2, spread=(Spread("idc"),)), cpus=1))
    assert Counter(host[5] for host in (await fleet.where()).values()) == {"e": 1, "w": 1}
    await fleet.settle()
    view = await reading.get(VIEWER, made)
    assert [slot.status.phase for slot in view.slots] == ["running", "running"]
    assert (view.deployment.look_at, view.deployment.unplaced) == (None, 0)
    assert (await reading.get(VIEWER, "acme/web")).deployment.id == made


async def test_hosts_hear_of_it_at_once(service: DeploymentService, fleet: Fleet, database: Database) -> None:
    await service.create(OPERATOR, deployment())
    topics = await announced(database)
    assert {"fleet.assignments_changed", "instances.requested", "deployments.changed"} <= set(topics)
    await fleet.obey()
    assert sum(map(len, fleet.running.values())) == 1


async def test_what_finds_no_room_waits_and_says_why_for_each_host(
    service: DeploymentService, reading: DeploymentReading, fleet: Fleet
) -> None:
    made = await service.create(OPERATOR, deployment(rules=Rules(5, per_host=9), memory_bytes=5 * GIB))
    view = await reading.get(VIEWER, made)
    assert (len(view.slots), view.deployment.unplaced) == (3, 2)
    assert view.deployment.why.hosts == dict.fromkeys(("east/e1", "east/e2", "west/w1"), "too little memory is free")
    await fleet.host("west", "w2")
    await fleet.pass_time(31, *EVERYBODY, "host-w2")
    await fleet.settle()
    view = await reading.get(VIEWER, made)
    assert (len(view.slots), view.deployment.unplaced) == (4, 1)


async def test_what_no_host_could_ever_hold_is_refused(service: DeploymentService, fleet: Fleet) -> None:
    with pytest.raises(NoRoom, match="no host that fits has as much"):
        await service.create(OPERATOR, deployment(memory_bytes=9 * GIB))
    with pytest.raises(NoRoom, match="east/e1 has 4 CPUs"):
        await service.create(OPERATOR, deployment(cpus=4.001))
    assert await fleet.where() == {}


async def test_reserve_and_overcommit_change_what_a_host_has(
    service: DeploymentService, places: HostPlaces, fleet: Fleet
) -> None:
    await places.put_policy(ADMIN, ScopeKind.PLATFORM, "", CapacityPolicy(reserve_memory_bytes=7 * GIB))
    with pytest.raises(NoRoom):
        await service.create(OPERATOR, deployment(memory_bytes=2 * GIB))
    await places.put_policy(ADMIN, ScopeKind.HOST, "west/w1", CapacityPolicy(memory_overcommit=3))
    await service.create(OPERATOR, deployment(memory_bytes=2 * GIB))
    assert await fleet.where() == {"web-0": "host-w1"}
    assert [(one.kind, one.name) for one in await places.policies(VIEWER)] == [("platform", ""), ("host", "west/w1")]
    await places.put_policy(ADMIN, ScopeKind.IDC, "east", CapacityPolicy(cpu_overcommit=2))
    await places.put_policy(ADMIN, ScopeKind.PLATFORM, "", CapacityPolicy())
    assert [one.name for one in await places.policies(VIEWER)] == ["east", "west/w1"]


async def test_two_at_the_same_moment_do_not_take_the_same_room(service: DeploymentService, fleet: Fleet) -> None:
    asked = [deployment(f"web{number}", Rules(1, hosts=("west/w1",)), memory_bytes=5 * GIB) for number in range(4)]
    made = await asyncio.gather(*(service.create(OPERATOR, one) for one in asked), return_exceptions=True)
    assert all(isinstance(one, str | NoRoom) for one in made)
    await fleet.settle()
    assert len(await fleet.where()) == 1


async def test_labels_neighbours_and_engines_choose_hosts(
    service: DeploymentService, instances: InstanceService, fleet: Fleet
) -> None:
    await fleet.change("host-e2", labels={"rack": "r2"})
    where = (Requirement("rack", Operator.IN, ("r2", "r3")),)
    await service.create(OPERATOR, deployment("labelled", Rules(labels=where)))
    await instances.run(OPERATOR, run_request("west/w1", name="db"))
    await service.create(OPERATOR, deployment("near", Rules(near=("db",))))
    await service.create(OPERATOR, deployment("apart", Rules(2, apart=("db",))))
    await service.create(OPERATOR, deployment("lonely", Rules(2, apart=("labelled", "db"))))
    await service.create(OPERATOR, deployment("engine", Rules(engine="lxd")))
    found = await fleet.where()
    assert (found["labelled-0"], found["near-0"]) == ("host-e2", "host-w1")
    assert {found["apart-0"], found["apart-1"]} == {"host-e1", "host-e2"}
    assert (found["lonely-0"], "lonely-1" in found, "engine-0" in found) == ("host-e1", False, False)


async def test_one_on_every_host_follows_the_hosts(service: DeploymentService, fleet: Fleet) -> None:
    await service.create(OPERATOR, deployment("log", Rules(None, idcs=("east",))))
    assert set((await fleet.where()).values()) == {"host-e1", "host-e2"}
    await fleet.host("east", "e3")
    await fleet.pass_time(31, *EVERYBODY, "host-e3")
    await fleet.settle()
    assert set((await fleet.where()).values()) == {"host-e1", "host-e2", "host-e3"}
    await fleet.revoke("host-e1")
    await fleet.pass_time(31, "host-e2", "host-e3")
    await fleet.settle("host-e2", "host-e3")
    assert set((await fleet.where()).values()) == {"host-e2", "host-e3"}


async def test_fewer_or_more_are_asked_for_and_what_fits_stays(
    service: DeploymentService, reading: DeploymentReading, fleet: Fleet
) -> None:
    made = await service.create(OPERATOR, deployment(rules=Rules(2)))
    before = await fleet.where()
    await service.place(OPERATOR, made, Rules(3))
    after = await fleet.where()
    assert {name: after[name] for name in before} == before
    assert len(after) == 3
    await service.place(OPERATOR, made, Rules(1))
    await fleet.settle()
    assert await fleet.where() == {"web-0": before["web-0"]}
    assert len((await reading.get(VIEWER, made)).slots) == 1


async def test_an_instance_that_somebody_removes_is_made_again(
    service: DeploymentService, reading: DeploymentReading, instances: InstanceService, fleet: Fleet
) -> None:
    made = await service.create(OPERATOR, deployment())
    await fleet.settle()
    (slot,) = (await reading.get(VIEWER, made)).slots
    await instances.remove(OPERATOR, slot.instance_id)
    await fleet.settle()
    (again,) = (await reading.get(VIEWER, made)).slots
    assert again.instance_id != slot.instance_id
    assert again.status.phase == "running"


async def test_a_deployment_goes_when_its_hosts_removed_its_instances(
    service: DeploymentService, reading: DeploymentReading, fleet: Fleet
) -> None:
    made = await service.create(OPERATOR, deployment(rules=Rules(2)))
    await fleet.settle()
    assert not await service.remove(OPERATOR, made)
    with pytest.raises(DeploymentBeingRemoved):
        await service.place(OPERATOR, made, Rules(3))
    await fleet.settle()
    with pytest.raises(DeploymentUnknown):
        await reading.get(ADMIN, made)
    assert await fleet.names() == {}


async def test_a_drained_host_gives_its_instances_away_and_never_two_of_one_run(
    service: DeploymentService, reading: DeploymentReading, places: HostPlaces, fleet: Fleet
) -> None:
    await service.create(OPERATOR, deployment(rules=Rules(4, per_host=2), memory_bytes=GIB))
    await fleet.settle()
    on_e1 = [name for name, host in (await fleet.where()).items() if host == "host-e1"]
    assert on_e1
    await places.put(ADMIN, "east/e1", Standing.DRAINING, "new disks")
    assert not (await reading.drain(ADMIN, "east/e1")).finished
    await fleet.settle(rounds=16)
    found = await fleet.where(wanted=("running",))
    assert len(found) == 4
    assert "host-e1" not in found.values()
    view = await reading.drain(ADMIN, "east/e1")
    assert (view.finished, view.standing.reason, view.instances) == (True, "new disks", [])
    assert set(fleet.most_at_once.values()) == {1}


async def test_no_more_than_allowed_are_down_while_a_host_is_drained(
    service: DeploymentService, reading: DeploymentReading, places: HostPlaces, fleet: Fleet
) -> None:
    made = await service.create(OPERATOR, deployment(rules=Rules(3, hosts=("east/e1", "west/w1"), per_host=3)))
    await fleet.settle()
    await places.put(ADMIN, "west/w1", Standing.DRAINING)
    for _ in range(20):
        await fleet.pass_time(1.5, *EVERYBODY)
        await fleet.converging.once()
        view = await reading.get(VIEWER, made)
        serving = [slot for slot in view.slots if slot.status.phase == "running"]
        wanted = await fleet.where(wanted=("running",))
        assert len(serving) >= 2
        assert len(wanted) >= 2
        await fleet.obey()
    assert set((await fleet.where(wanted=("running",))).values()) == {"host-e1"}


async def test_what_cannot_move_says_why(
    service: DeploymentService,
    reading: DeploymentReading,
    places: HostPlaces,
    instances: InstanceService,
    fleet: Fleet,
) -> None:
    only = Rules(hosts=("west/w1",))
    await instances.run(OPERATOR, run_request("west/w1", name="pinned"))
    await service.create(OPERATOR, deployment("agent", Rules(None)))
    await service.create(OPERATOR, deployment("db", only, mounts=(Mount("data", "/data"),)))
    await service.create(OPERATOR, deployment("stuck", only))
    await fleet.settle()
    await places.put(ADMIN, "west/w1", Standing.DRAINING)
    await fleet.settle()
    view = await reading.drain(ADMIN, "west/w1")
    said = {one.instance.name: (one.leaving, one.detail) for one in view.instances}
    assert said["pinned"] == (Leaving.STAYS, "it was asked for on this host; run it elsewhere, or remove it")
    assert said["db-0"] == (Leaving.STAYS, "cannot move: stateful, it has volumes")
    assert said["stuck-0"][0] is Leaving.WAITS
    assert "1 host: it is draining" in said["stuck-0"][1]
    assert [said[name] for name in said if name.startswith("agent")] == [(Leaving.STAYS, "one is wanted on every host")]
    assert not view.finished
    assert len([one for one in (await fleet.where(wanted=("running",))).values() if one == "host-w1"]) == 4


async def test_state_that_may_be_lost_moves(service: DeploymentService, places: HostPlaces, fleet: Fleet) -> None:
    mounts = (Mount("cache", "/cache"),)
    await service.create(OPERATOR, deployment("cache", mounts=mounts, state_may_be_lost=True))
    await fleet.settle()
    (host,) = (await fleet.where()).values()
    await places.put(ADMIN, LABELS[host], Standing.DRAINING)
    await fleet.settle()
    assert (await fleet.where(wanted=("running",)))["cache-0"] != host


async def test_a_cordoned_host_gets_nothing_new_and_keeps_what_it_has(
    service: DeploymentService, places: HostPlaces, instances: InstanceService, fleet: Fleet
) -> None:
    await service.create(OPERATOR, deployment(rules=Rules(3)))
    before = await fleet.where()
    await places.put(ADMIN, "west/w1", Standing.CORDONED, "smells of smoke")
    await fleet.settle()
    assert await fleet.where() == before
    with pytest.raises(HostClosed, match="west/w1 is cordoned"):
        await instances.run(OPERATOR, run_request("west/w1", name="other"))
    assert {view.host for view in await instances.run(OPERATOR, run_request(all_hosts=True, name="all"))} == {
        "e1",
        "e2",
    }
    assert (await places.standing(VIEWER, "west/w1")).reason == "smells of smoke"
    await places.put(ADMIN, "west/w1", Standing.OPEN)
    assert len(await instances.run(OPERATOR, run_request(all_hosts=True, name="all"))) == 3


async def test_named_hosts_are_refused_without_room(instances: InstanceService, fleet: Fleet, shelf: Shelf) -> None:
    shelf.put_image(WEB, b"base", b"web")
    await instances.run(OPERATOR, run_request("east/e1", name="big", memory_bytes=6 * GIB))
    with pytest.raises(NoRoom, match="east/e1: too little memory is free"):
        await instances.run(OPERATOR, run_request("east/e1", "east/e2", name="more", memory_bytes=3 * GIB))
    assert await fleet.where() == {"big": "host-e1"}
    # What is there already is not asked for again.
    await instances.run(OPERATOR, run_request("east/e1", name="big", memory_bytes=6 * GIB))


async def test_a_lost_host_is_replaced_only_after_its_time_and_cleans_up_when_it_is_back(
    service: DeploymentService, fleet: Fleet, clock: ManualClock
) -> None:
    await service.create(OPERATOR, deployment(reschedule_after_seconds=600))
    await fleet.settle()
    (host,) = (await fleet.where()).values()
    others = [one for one in EVERYBODY if one != host]
    await fleet.cut_off(host)
    await fleet.pass_time(500, *others)
    await fleet.settle(*others)
    assert set((await fleet.where()).values()) == {host}
    await fleet.pass_time(120, *others)
    await fleet.settle(*others)
    (elsewhere,) = (await fleet.where()).values()
    assert elsewhere != host
    assert len(await fleet.names()) == 2  # the old one is to be removed as soon as its host hears of it
    await fleet.change(host, session_id="s-again", last_seen_at=clock.now())
    await fleet.settle()
    assert fleet.running[host] == set()
    assert len(await fleet.names()) == 1
    assert set((await fleet.where()).values()) == {elsewhere}


async def test_nobody_is_replaced_after_a_long_outage_of_the_control_plane_itself(
    service: DeploymentService, fleet: Fleet
) -> None:
    await service.create(OPERATOR, deployment(reschedule_after_seconds=600))
    await fleet.settle()
    before = await fleet.where()
    for host in EVERYBODY:
        await fleet.change(host, session_id=None, last_seen_at=fleet.clock.now() - timedelta(hours=5))
    await fleet.pass_time(300)
    await fleet.settle()
    assert await fleet.where() == before


async def test_an_exclusive_one_stops_on_its_host_before_it_starts_elsewhere(
    service: DeploymentService, reading: DeploymentReading, fleet: Fleet
) -> None:
    made = await service.create(
        OPERATOR, deployment(reschedule_after_seconds=300, exclusive=True, stop_grace_seconds=20)
    )
    known = (await reading.get(VIEWER, made)).deployment
    assert fence_seconds(known, known.spec) == 220
    (host,) = (await fleet.where()).values()
    told = (await fleet._assignments.assignments(host)).assignments
    assert [one.stop_when_cut_off_seconds for one in told.values()] == [220]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (deployment("a" * 60), "name"),
        (deployment(reschedule_after_seconds=5), "reschedule_after_seconds"),
        (deployment(rules=Rules(None), reschedule_after_seconds=600), "reschedule_after_seconds"),
        (deployment(mounts=(Mount("d", "/d"),), reschedule_after_seconds=600), "reschedule_after_seconds"),
        (deployment(exclusive=True), "exclusive"),
        (deployment(rules=Rules(-1)), "count"),
    ],
)
async def test_what_cannot_be_meant_is_refused(service: DeploymentService, request_: object, field: str) -> None:
    with pytest.raises(PlacementInvalid) as refused:
        await service.create(OPERATOR, request_)  # type: ignore[arg-type]
    assert refused.value.facts["field"] == field


async def test_a_host_where_somebody_has_its_name_is_passed_over(
    service: DeploymentService, reading: DeploymentReading, instances: InstanceService, fleet: Fleet
) -> None:
    await instances.run(OPERATOR, run_request("east/e1", "west/w1", name="web-0"))
    made = await service.create(OPERATOR, deployment(rules=Rules(2)))
    view = await reading.get(VIEWER, made)
    assert [slot.host for slot in view.slots] == ["east/e2"]
    assert view.deployment.why.hosts["west/w1"] == "another instance has its name there"


async def test_a_name_is_taken_once(service: DeploymentService, fleet: Fleet) -> None:
    await service.create(OPERATOR, deployment())
    with pytest.raises(DeploymentExists):
        await service.create(OPERATOR, deployment())


async def test_other_tenants_see_nothing_and_viewers_change_nothing(
    service: DeploymentService, reading: DeploymentReading, places: HostPlaces, fleet: Fleet
) -> None:
    made = await service.create(OPERATOR, deployment())
    for act in (service.place(VIEWER, made, Rules(2)), service.remove(VIEWER, made)):
        with pytest.raises(Denied):
            await act
    with pytest.raises(NotFound):
        await service.create(STRANGER, deployment())
    for unseen in (
        reading.get(STRANGER, made),
        reading.get(STRANGER, "acme/web"),
        service.remove(STRANGER, made),
        service.place(STRANGER, made, Rules(2)),
    ):
        with pytest.raises(DeploymentUnknown):
            await unseen
    assert (await reading.page(STRANGER, None, PageRequest())).total_count == 0
    assert (await reading.page(VIEWER, "acme", PageRequest())).total_count == 1
    (host,) = (await fleet.where()).values()
    assert len((await reading.drain(VIEWER, LABELS[host])).instances) == 1
    assert (await reading.drain(STRANGER, LABELS[host])).instances == []
    with pytest.raises(Denied):
        await places.put(OPERATOR, LABELS[host], Standing.CORDONED)
    with pytest.raises(Denied):
        await places.put_policy(OPERATOR, ScopeKind.PLATFORM, "", CapacityPolicy())


async def test_kinds_of_deployments_do_not_turn_into_each_other(service: DeploymentService, fleet: Fleet) -> None:
    made = await service.create(OPERATOR, deployment())
    with pytest.raises(Conflict, match="different deployments"):
        await service.place(OPERATOR, made, Rules(None))


async def test_what_reaches_into_hosts_is_for_those_who_run_the_platform(service: DeploymentService) -> None:
    for more in ({"privileged": True}, {"network": "host"}):
        with pytest.raises(Denied):
            await service.create(OPERATOR, deployment(**more))
    with pytest.raises(PlacementInvalid):
        await service.create(ADMIN, deployment(adopt=AdoptionWish("somebody-elses")))
