"""Deployments that wait for hosts or for room go on as soon as there is some, not with the look half a minute on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from common.clock import ManualClock
from common.errors import Unavailable
from common.lifecycle import Lifecycle
from control_plane.database import Database
from control_plane.database.relay import relay_once
from control_plane.deployments import store
from control_plane.deployments.converging import Converging
from control_plane.deployments.noticing import Noticing
from control_plane.deployments.service import DeploymentService
from control_plane.events.memory import MemoryEventBus
from control_plane.fleet.hosts import Members
from control_plane.fleet.messages import HostsCame
from control_plane.fleet.placement.model import (
    CapacityPolicy,
    Operator,
    Requirement,
    Rules,
    ScopeKind,
    Standing,
)
from control_plane.fleet.placement.service import HostPlaces
from tests.control_plane.deployments.parts import GIB, Fleet, deployment
from tests.control_plane.fleet.edge import eventually
from tests.control_plane.instances.parts import ADMIN, OPERATOR

EVERYBODY = {"host-e1", "host-e2", "host-w1"}


class Watched(Noticing):
    """`looks`: when it looked, by the clock that nobody sets. `away`: whether the database is. `crowd`: how many more
    than there are it found.
    """

    def __init__(self, database: Database, clock: ManualClock, converging: Converging) -> None:
        super().__init__(database, clock, converging)
        self.looks: list[float] = []
        self.away = False
        self.crowd = 0
        self._time = clock

    async def once(self) -> int:
        self.looks.append(self._time.monotonic())
        if self.away:
            raise Unavailable("the database is away", action="wait")
        return self.crowd + await super().once()


class World:
    """What is announced reaches `noticing` when it is relayed. `hosts_used`: where instances are wanted once hosts have
    had some seconds, less than the next look is away.
    """

    def __init__(self, database: Database, noticing: Watched, fleet: Fleet) -> None:
        self.database = database
        self.noticing = noticing
        self.fleet = fleet
        self.bus = MemoryEventBus()

    async def relay(self) -> None:
        await relay_once(self.database, self.bus, self.noticing.tap)

    async def hastened(self) -> int:
        await self.relay()
        return await self.noticing.once()

    async def announce_a_host(self) -> None:
        async with self.database.transaction() as unit:
            await unit.announce(HostsCame(1))

    async def hosts_used(self) -> set[str]:
        await self.fleet.settle(rounds=4)
        return set((await self.fleet.where(wanted=("running",))).values())


@pytest.fixture
async def world(database: Database, clock: ManualClock, converging: Converging, fleet: Fleet) -> World:
    return World(database, Watched(database, clock, converging), fleet)


@pytest.fixture
async def following(world: World) -> AsyncIterator[None]:
    async with Lifecycle() as lifecycle:
        lifecycle.spawn("noticing", world.noticing.run())
        yield


async def test_a_host_that_is_opened_again_is_used_at_once(
    service: DeploymentService, places: HostPlaces, world: World
) -> None:
    await places.put(ADMIN, "west/w1", Standing.CORDONED)
    await service.create(OPERATOR, deployment(rules=Rules(3)))
    assert await world.hosts_used() == EVERYBODY - {"host-w1"}
    await world.hastened()
    await world.fleet.settle(rounds=1)
    await places.put(ADMIN, "west/w1", Standing.OPEN)
    assert await world.hastened() == 1
    assert await world.hosts_used() == EVERYBODY


async def test_without_notice_it_is_used_half_a_minute_later(
    service: DeploymentService, places: HostPlaces, world: World
) -> None:
    await places.put(ADMIN, "west/w1", Standing.CORDONED)
    await service.create(OPERATOR, deployment(rules=Rules(3)))
    assert await world.hosts_used() == EVERYBODY - {"host-w1"}
    await places.put(ADMIN, "west/w1", Standing.OPEN)
    assert await world.hosts_used() == EVERYBODY - {"host-w1"}
    await world.fleet.pass_time(31, *EVERYBODY)
    assert await world.hosts_used() == EVERYBODY


async def test_a_label_makes_a_host_fit(service: DeploymentService, members: Members, world: World) -> None:
    rack = (Requirement("rack", Operator.IN, ("r2",)),)
    await world.fleet.change("host-e2", labels={"rack": "r2"})
    await service.create(OPERATOR, deployment(rules=Rules(2, labels=rack)))
    assert await world.hosts_used() == {"host-e2"}
    await world.hastened()
    await world.fleet.settle(rounds=1)
    await members.label("west/w1", {"rack": "r2"})
    assert await world.hastened() == 1
    assert await world.hosts_used() == {"host-e2", "host-w1"}


async def test_more_may_be_promised_of_a_host(service: DeploymentService, places: HostPlaces, world: World) -> None:
    await service.create(OPERATOR, deployment(rules=Rules(4, per_host=2), memory_bytes=5 * GIB))
    await world.hosts_used()
    assert len(await world.fleet.where()) == 3
    await world.hastened()
    await world.fleet.settle(rounds=1)
    await places.put_policy(ADMIN, ScopeKind.HOST, "west/w1", CapacityPolicy(memory_overcommit=3))
    assert await world.hastened() == 1
    await world.hosts_used()
    assert len(await world.fleet.where()) == 4


async def test_room_that_an_instance_leaves_is_taken(service: DeploymentService, world: World) -> None:
    large = await service.create(OPERATOR, deployment("large", Rules(3), memory_bytes=5 * GIB))
    await service.create(OPERATOR, deployment("next", Rules(1), memory_bytes=5 * GIB))
    await world.hosts_used()
    assert "next-0" not in await world.fleet.where()
    await world.hastened()
    await world.fleet.settle(rounds=1)
    await service.place(OPERATOR, large, Rules(2))
    await world.fleet.settle(rounds=3)
    assert await world.hastened() == 1
    await world.hosts_used()
    assert "next-0" in await world.fleet.where()


async def test_what_is_wanted_on_every_host_comes_to_a_new_one(service: DeploymentService, world: World) -> None:
    await service.create(OPERATOR, deployment("log", Rules(None)))
    assert await world.hosts_used() == EVERYBODY
    await world.fleet.host("west", "w2")
    await world.announce_a_host()
    assert await world.hastened() == 1
    assert await world.hosts_used() == {*EVERYBODY, "host-w2"}


@pytest.mark.parametrize("how", ["drained", "revoked"])
async def test_a_host_that_goes_is_left_at_once_by_those_that_are_looked_at_now_and_then(
    service: DeploymentService, places: HostPlaces, members: Members, world: World, how: str
) -> None:
    await service.create(OPERATOR, deployment(reschedule_after_seconds=600))
    await service.create(OPERATOR, deployment("other", reschedule_after_seconds=600))
    await world.hosts_used()
    found = await world.fleet.where()
    assert found["web-0"] != found["other-0"]
    label = {"host-e1": "east/e1", "host-e2": "east/e2", "host-w1": "west/w1"}[found["web-0"]]
    await world.hastened()
    if how == "drained":
        await places.put(ADMIN, label, Standing.DRAINING)
    else:
        await members.revoke("host", label)
    assert await world.hastened() == 1, "the other one is not on it"
    await world.fleet.settle(*(EVERYBODY - {found["web-0"]} if how == "revoked" else EVERYBODY), rounds=6)
    after = await world.fleet.where(wanted=("running",))
    assert after["web-0"] != found["web-0"]
    assert after["other-0"] == found["other-0"]


async def test_what_waits_for_nothing_is_left_alone(service: DeploymentService, world: World) -> None:
    await service.create(OPERATOR, deployment(rules=Rules(3)))
    await service.create(OPERATOR, deployment("other", Rules(1), reschedule_after_seconds=600))
    await world.hosts_used()
    await world.announce_a_host()
    assert await world.hastened() == 0


async def two_looks(world: World, clock: ManualClock, *, hosts: int, apart_seconds: float) -> float:
    """Hosts come one after the other, and are looked at twice meanwhile: so many seconds apart."""
    for _ in range(hosts):
        await world.announce_a_host()
        await world.relay()
        # Until its wait has begun: who is still in the database would wait from a later moment than it looked at.
        await eventually(lambda: world.noticing.looks and clock.sleeping)
        await clock.advance(apart_seconds)
    await eventually(lambda: len(world.noticing.looks) == 2)
    first, second = world.noticing.looks
    return second - first


@pytest.mark.usefixtures("following")
async def test_crowds_are_noticed_at_once_and_then_together(world: World, clock: ManualClock) -> None:
    assert 5 <= await two_looks(world, clock, hosts=24, apart_seconds=0.25) <= 6


@pytest.mark.usefixtures("following")
async def test_a_crowd_that_waits_is_given_time(world: World, clock: ManualClock) -> None:
    world.noticing.crowd = 80
    assert 8 <= await two_looks(world, clock, hosts=10, apart_seconds=1) <= 10


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_no_more_are_hastened_than_can_be_looked_at(
    service: DeploymentService, world: World, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(store, "_MOST_HASTENED", most)
    for number in range(2):
        await service.create(OPERATOR, deployment(f"log{number}", Rules(None)))
    await world.hosts_used()
    await world.announce_a_host()
    assert await world.hastened() == min(most, 2)


@pytest.mark.usefixtures("following")
async def test_a_database_that_was_away_is_outlived(
    service: DeploymentService, places: HostPlaces, world: World, clock: ManualClock
) -> None:
    await places.put(ADMIN, "west/w1", Standing.CORDONED)
    await service.create(OPERATOR, deployment(rules=Rules(3)))
    assert await world.hosts_used() == EVERYBODY - {"host-w1"}
    world.noticing.away = True
    await world.announce_a_host()
    await world.relay()
    await eventually(lambda: world.noticing.looks)
    world.noticing.away = False
    await places.put(ADMIN, "west/w1", Standing.OPEN)
    await world.relay()
    await clock.advance(5)
    await eventually(lambda: len(world.noticing.looks) == 2)
    assert await world.hosts_used() == EVERYBODY
