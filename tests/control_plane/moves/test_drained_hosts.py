from __future__ import annotations

import random

import pytest

from common.clock import ManualClock
from control_plane.database import Database
from control_plane.fleet.hosts import Members
from control_plane.fleet.placement.model import HostStanding, Standing
from control_plane.fleet.placement.store import put_standing
from control_plane.instances.mobility import STAY
from control_plane.instances.model import Mount
from control_plane.instances.service import InstanceService
from control_plane.moves.draining import Draining
from control_plane.moves.model import Stage
from control_plane.moves.service import MoveService
from control_plane.web.paging import PageRequest
from tests.control_plane.instances.parts import OPERATOR, VIEWER, WEB, run_request
from tests.control_plane.moves.parts import VPS, Fleet
from tests.control_plane.swarm.parts import Shelf


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """What moves where is not the database's business, and its questions are asked on both elsewhere."""
    return sqlite_url


@pytest.fixture
def draining(database: Database, clock: ManualClock, service: MoveService, members: Members) -> Draining:
    return Draining(database, clock, service, members.look, random.Random(1).random)


async def drain(database: Database, host_id: str) -> None:
    async with database.transaction() as unit:
        await put_standing(unit.connection, host_id, HostStanding(Standing.DRAINING), unit.clock.now())


async def test_what_may_move_leaves_a_drained_host_one_after_another(
    draining: Draining,
    service: MoveService,
    instances: InstanceService,
    fleet: Fleet,
    database: Database,
    shelf: Shelf,
) -> None:
    shelf.put_image(WEB, b"layer")
    for name, image, more in (
        ("vps1", VPS, {}),
        ("vps2", VPS, {}),
        ("docker", WEB, {}),
        ("volumes", VPS, {"mounts": (Mount("data", "/data"),)}),
        ("stays", VPS, {"labels": dict([STAY])}),
    ):
        await instances.run(OPERATOR, run_request("east/e1", name=name, image=image, **more))
    await fleet.obey()
    await draining.once()
    assert (await fleet.carrying.once(), await open_moves(service)) == (0, 0)
    await drain(database, "host-e1")
    for _ in range(14):
        await draining.once()
        assert await open_moves(service) <= 1
        await fleet.settle(rounds=1)
    found = await fleet.where()
    assert {name for name, host in found.items() if host == "host-e2"} == {"vps1", "vps2"}  # its own data centre
    assert {name for name, host in found.items() if host == "host-e1"} == {"docker", "volumes", "stays"}


async def test_what_came_back_is_not_tried_again_at_once(
    draining: Draining, service: MoveService, instances: InstanceService, fleet: Fleet, database: Database
) -> None:
    made = (await instances.run(OPERATOR, run_request("east/e1", name="vps", image=VPS)))[0].instance.id
    await fleet.obey()
    fleet.unwell.add("host-e2")
    await drain(database, "host-e1")
    await draining.once()
    await fleet.settle(rounds=30)
    first = await service.get(VIEWER, made)
    assert (first.stage, first.requested_by) == (Stage.FAILED, "drain")
    await draining.once()
    assert (await service.get(VIEWER, made)).id == first.id
    await fleet.clock.advance(601)
    await fleet.obey()
    await draining.once()
    assert (await service.get(VIEWER, made)).id != first.id


async def open_moves(service: MoveService) -> int:
    """Of instances that are not well elsewhere yet."""
    found = await service.page(VIEWER, PageRequest(), open_only=True)
    return sum(one.stage is not Stage.CLEARING for one in found.items)
