from __future__ import annotations

from datetime import timedelta

import pytest

from common.clock import ManualClock
from common.errors import Denied, NotFound
from common.limits import DailyWindow
from control_plane.database import Database
from control_plane.fleet.assigning import LayeredAssignments
from control_plane.fleet.model import HostUnknown, IdcUnknown
from control_plane.instances.service import InstanceService
from control_plane.preheats.model import PreheatInvalid, PreheatRequest, PreheatUnknown, State, Targets, Window
from control_plane.preheats.reading import PreheatReading
from control_plane.preheats.service import PreheatService
from control_plane.swarm.service import SwarmService
from control_plane.web.paging import PageRequest
from proto.agent.v1 import agent_pb2
from proto.content.v1 import content_pb2
from proto.regional.v1 import regional_pb2
from tests.control_plane.instances.parts import ADMIN, OPERATOR, STRANGER, VIEWER, WEB, holds, run_request
from tests.control_plane.swarm.parts import Shelf, add_host, add_idc, revoke_host

pytestmark = pytest.mark.usefixtures("fleet")
ALL = PageRequest(page_size=200)


EVERY_HOST = Targets()


def asked(targets: Targets = EVERY_HOST, **more: object) -> PreheatRequest:
    return PreheatRequest(**({"tenant": "acme", "image": WEB, "targets": targets} | more))  # type: ignore[arg-type]


async def hosts_of(reading: PreheatReading, preheat_id: str) -> list[str]:
    return [f"{one.idc}/{one.host}" for one in (await reading.hosts(ADMIN, preheat_id, ALL)).items]


async def orders(swarm: SwarmService, idc: str = "east") -> list[regional_pb2.Order]:
    return list((await swarm.orders(f"idc-{idc}", "regional-1")).orders.values())


async def test_every_host_is_told_to_hold_it_and_every_idc_to_have_it(
    preheats: PreheatService, reading: PreheatReading, assignments: LayeredAssignments, swarm: SwarmService
) -> None:
    made = await preheats.create(OPERATOR, asked())
    assert await hosts_of(reading, made) == ["east/e1", "east/e2", "west/w1"]
    told = (await assignments.assignments("host-e1")).assignments
    assert told[made].desired_state == agent_pb2.DESIRED_STATE_HELD
    assert told[made].effort == content_pb2.EFFORT_LOWER
    assert [content.size_bytes for content in told[made].image.contents][1:] == [4, 3]
    assert all(content.token for content in told[made].image.contents)
    assert {order.effort for order in await orders(swarm)} == {content_pb2.EFFORT_LOWER}
    assert len(await orders(swarm)) == len(await orders(swarm, "west")) == 4


async def test_regionals_alone_are_chosen_without_any_host(
    preheats: PreheatService, reading: PreheatReading, assignments: LayeredAssignments, swarm: SwarmService
) -> None:
    made = await preheats.create(OPERATOR, asked(Targets(idcs=("east",), regionals_only=True), lower_effort=False))
    assert await hosts_of(reading, made) == []
    assert not (await assignments.assignments("host-e1")).assignments
    assert {order.effort for order in await orders(swarm)} == {content_pb2.EFFORT_UNSPECIFIED}
    assert await orders(swarm, "west") == []


async def test_hosts_are_chosen_by_name_label_and_share(
    preheats: PreheatService, reading: PreheatReading, database: Database
) -> None:
    await add_idc(database, "north")
    for number in range(9):
        await add_host(database, "north", f"n{number}", labels={"rack": f"r{number % 2}"})
    named = await preheats.create(OPERATOR, asked(Targets(hosts=("east/e1", "host-w1"))))
    racked = await preheats.create(OPERATOR, asked(Targets(labels={"rack": "r1"})))
    third = await preheats.create(OPERATOR, asked(Targets(idcs=("north",), percentage=33)))
    assert await hosts_of(reading, named) == ["east/e1", "west/w1"]
    assert await hosts_of(reading, racked) == ["north/n1", "north/n3", "north/n5", "north/n7"]
    chosen = await hosts_of(reading, third)
    assert len(chosen) == 3
    assert await preheats.carry_on() == 0
    assert await hosts_of(reading, third) == chosen


async def test_outside_its_window_it_stands_still_and_says_when_it_goes_on(
    preheats: PreheatService,
    reading: PreheatReading,
    assignments: LayeredAssignments,
    swarm: SwarmService,
    clock: ManualClock,
) -> None:
    night = Window(daily=DailyWindow(60, 300, "UTC"))
    made = await preheats.create(OPERATOR, asked(window=night))  # the clock begins at midnight
    view = await reading.get(VIEWER, made)
    assert (view.state, view.next_change_at) == (State.WAITING, clock.now() + timedelta(hours=1))
    assert (await assignments.assignments("host-e1")).assignments[made].effort == content_pb2.EFFORT_PAUSED
    generation = (await assignments.assignments("host-e1")).generation

    clock.tick(3600)
    assert await preheats.carry_on() == 1
    told = await assignments.assignments("host-e1")
    assert told.assignments[made].effort == content_pb2.EFFORT_LOWER
    assert told.generation > generation
    assert {order.effort for order in await orders(swarm)} == {content_pb2.EFFORT_LOWER}
    assert (await reading.get(VIEWER, made)).next_change_at == clock.now() + timedelta(hours=4)

    clock.tick(4 * 3600)
    assert await preheats.carry_on() == 1
    assert {order.effort for order in await orders(swarm)} == {content_pb2.EFFORT_PAUSED}
    assert (await reading.get(VIEWER, made)).state is State.WAITING


async def test_what_expires_or_is_cancelled_releases_only_what_nobody_else_wants(
    preheats: PreheatService,
    reading: PreheatReading,
    assignments: LayeredAssignments,
    instances: InstanceService,
    swarm: SwarmService,
    clock: ManualClock,
) -> None:
    short = await preheats.create(OPERATOR, asked(keep_until=clock.now() + timedelta(days=1)))
    pinned = await preheats.create(OPERATOR, asked(Targets(idcs=("east",))))
    await instances.run(OPERATOR, run_request("west/w1"))
    clock.tick(86_401)
    assert await preheats.carry_on() == 1
    assert (await reading.get(VIEWER, short)).state is State.EXPIRED
    assert [view.preheat.id for view in (await reading.page(VIEWER, ALL)).items] == [pinned]
    assert pinned in (await assignments.assignments("host-e1")).assignments
    assert {order.effort for order in await orders(swarm, "west")} == {content_pb2.EFFORT_UNSPECIFIED}

    await preheats.cancel(OPERATOR, pinned)
    await preheats.cancel(OPERATOR, pinned)
    assert await orders(swarm) == []
    assert not (await assignments.assignments("host-e1")).assignments
    assert (await reading.get(VIEWER, pinned)).state is State.CANCELLED
    assert len(await orders(swarm, "west")) == 4


async def test_somebody_who_wants_it_now_makes_it_ordinary_until_he_wants_it_no_more(
    preheats: PreheatService, instances: InstanceService, swarm: SwarmService
) -> None:
    await preheats.create(OPERATOR, asked())
    before = (await swarm.orders("idc-east", "r")).generation
    (view,) = await instances.run(OPERATOR, run_request("east/e1"))
    assert {order.effort for order in await orders(swarm)} == {content_pb2.EFFORT_UNSPECIFIED}
    assert (await swarm.orders("idc-east", "r")).generation > before
    await instances.remove(OPERATOR, view.instance.id, force=True)
    assert {order.effort for order in await orders(swarm)} == {content_pb2.EFFORT_LOWER}


async def test_hosts_that_come_and_go_are_followed(
    preheats: PreheatService, reading: PreheatReading, database: Database, swarm: SwarmService
) -> None:
    made = await preheats.create(OPERATOR, asked())
    await add_idc(database, "north")
    await add_host(database, "north", "n1")
    await revoke_host(database, "host-w1")
    assert await preheats.carry_on() == 1
    assert await hosts_of(reading, made) == ["east/e1", "east/e2", "north/n1"]
    assert await orders(swarm, "west") == []
    assert len(await orders(swarm, "north")) == 4


async def test_progress_is_told_by_idc_and_host_with_its_sources(
    preheats: PreheatService, reading: PreheatReading, assignments: LayeredAssignments, shelf: Shelf
) -> None:
    made = await preheats.create(OPERATOR, asked(Targets(hosts=("east/e1", "east/e2"))))
    image = shelf.images[WEB, "amd64"]
    contents = [image.manifest, *image.contents]
    total = sum(content.size for content in contents)
    fetching = agent_pb2.InstanceReport(instance_id=made, generation=1, phase=agent_pb2.PHASE_VERIFIED)
    reports = [holds(str(one.digest), one.size, from_peers_bytes=one.size) for one in contents]
    await assignments.accept_reports("host-e1", [fetching], reports)
    await assignments.accept_reports("host-e2", [], [holds(str(contents[1].digest), contents[1].size, 1)])

    (idc,) = (await reading.get(VIEWER, made)).idcs
    assert (idc.idc, idc.hosts, idc.hosts_held, idc.total_bytes) == ("east", 2, 1, total)
    assert idc.held_bytes == total + 1
    one, other = (await reading.hosts(VIEWER, made, ALL)).items
    assert (one.host, one.held, one.phase, one.from_peers_bytes) == ("e1", True, "verified", total)
    assert (other.host, other.held, other.held_bytes) == ("e2", False, 1)


async def test_other_tenants_neither_see_nor_end_it_and_viewers_only_look(
    preheats: PreheatService, reading: PreheatReading
) -> None:
    made = await preheats.create(OPERATOR, asked())
    for call in (
        reading.get(STRANGER, made),
        reading.hosts(STRANGER, made, ALL),
        preheats.cancel(STRANGER, made),
        preheats.cancel(STRANGER, "no-such-id"),
    ):
        with pytest.raises(PreheatUnknown):
            await call
    assert (await reading.page(STRANGER, ALL)).items == []
    with pytest.raises(NotFound):
        await preheats.create(STRANGER, asked())
    with pytest.raises(NotFound):
        await preheats.create(STRANGER, asked(tenant="globex"))
    for denied in (preheats.create(VIEWER, asked()), preheats.cancel(VIEWER, made)):
        with pytest.raises(Denied):
            await denied
    assert (await reading.get(VIEWER, made)).state is State.ACTIVE


@pytest.mark.parametrize(
    ("request_", "failure"),
    [
        (asked(Targets(percentage=0)), PreheatInvalid),
        (asked(Targets(hosts=("east/e1",), percentage=50)), PreheatInvalid),
        (asked(Targets(regionals_only=True, labels={"a": "b"})), PreheatInvalid),
        (asked(window=Window(daily=DailyWindow(0, 60, "Mars/Olympus"))), PreheatInvalid),
        (asked(Targets(hosts=("east/nobody",))), HostUnknown),
        (asked(Targets(labels={"no": "such"})), HostUnknown),
        (asked(Targets(idcs=("nowhere",))), IdcUnknown),
        (asked(image="acme/web:2.0"), NotFound),
    ],
)
async def test_what_makes_no_sense_changes_nothing(
    preheats: PreheatService, reading: PreheatReading, request_: PreheatRequest, failure: type[Exception]
) -> None:
    with pytest.raises(failure):
        await preheats.create(OPERATOR, request_)
    assert (await reading.page(ADMIN, ALL, ended=True)).items == []
