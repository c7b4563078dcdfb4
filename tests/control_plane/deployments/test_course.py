"""The course of one deployment against hosts that answer late, die, come back and are drained, from seeds.

Pure: no database, no clock. What the course decides is applied here as the service applies it; hosts report in any
order. Always: never two instances of one slot are wanted running, and an instance is only run on a host whose
predecessor's host said that it is gone, or was given up.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from common.digest import Digest
from control_plane.deployments.course import next_course
from control_plane.deployments.model import Deployment, Slot
from control_plane.deployments.picture import Picture
from control_plane.fleet.placement.model import Offer, Rules, Spread, Standing
from control_plane.instances.model import (
    DesiredState,
    Health,
    ImageContent,
    Instance,
    InstanceImage,
    InstanceSpec,
    Phase,
    Status,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
RESCHEDULE = 300
IMAGE = InstanceImage("acme/web:1", "acme/web", "1", ImageContent(Digest.of(b"m"), 1, "m"), ())


@dataclass
class World:
    """The rows, and what hosts really run."""

    chance: random.Random
    rules: Rules
    now: datetime = START
    slots: dict[int, Slot] = field(default_factory=dict)
    instances: dict[str, tuple[Instance, Status]] = field(default_factory=dict)
    offers: dict[str, Offer] = field(default_factory=dict)
    runs: set[str] = field(default_factory=set)  # instance ids
    names: dict[str, str] = field(default_factory=dict)
    made: int = 0
    unplaced: int = 0

    def __post_init__(self) -> None:
        for number in range(6):
            idc = "east" if number < 3 else "west"
            self.offers[f"h{number}"] = Offer(f"h{number}", f"e{number}", f"idc-{idc}", idc)

    @property
    def deployment(self) -> Deployment:
        return Deployment(
            "d", "t", "acme", "web", "acme/web:1", {"amd64": IMAGE}, InstanceSpec(), self.rules, DesiredState.RUNNING,
            RESCHEDULE, False, True, "olga", START, START,
        )  # fmt: skip

    def look(self) -> None:
        course = next_course(Picture(self.deployment, self.slots, self.instances, self.offers, {}, self.now, START))
        slots = dict(course.slots)
        for one in course.remove:
            self._want(one, DesiredState.REMOVED)
        for one in course.run:
            self._want(one, DesiredState.RUNNING)
        for creation in course.create:
            number, host_id = creation.number, creation.host_id
            made = self._make(number, host_id, held=creation.successor)
            if creation.successor:
                slots[number] = replace(slots[number], successor_id=made, successor_host_id=host_id)
            else:
                slots[number] = Slot(number, made, host_id)
        self.slots, self.unplaced = slots, course.unplaced

    def _want(self, instance_id: str, state: DesiredState) -> None:
        instance, status = self.instances[instance_id]
        assert instance.desired_state is not DesiredState.REMOVED or state is DesiredState.REMOVED
        self.instances[instance_id] = replace(instance, desired_state=state), status

    def _make(self, number: int, host_id: str, *, held: bool) -> str:
        self.made += 1
        made = f"i{self.made:04}"
        state = DesiredState.HELD if held else DesiredState.RUNNING
        name = f"web-{number}"
        clash = [one for one, _ in self.instances.values() if (one.host_id, one.name) == (host_id, name)]
        assert not clash, "the table has no room for two of a name on a host"
        instance = Instance(made, "t", "acme", host_id, "", name, IMAGE, InstanceSpec(), state, 1, 0, START, START)
        self.instances[made], self.names[made] = (instance, Status()), name
        return made

    def hosts_work(self) -> None:
        """Some hosts that are there look at what they are told, do it and say so."""
        for instance_id, (instance, _) in list(self.instances.items()):
            offer = self.offers[instance.host_id]
            if offer.absent_since is not None or self.chance.random() < 0.4:
                continue
            self.runs.discard(instance_id)
            if instance.desired_state is DesiredState.REMOVED:
                del self.instances[instance_id]
                continue
            running = instance.desired_state is DesiredState.RUNNING
            if running:
                self.runs.add(instance_id)
            phase = Phase.RUNNING if running else Phase.VERIFIED
            self.instances[instance_id] = instance, Status(1, phase, Health.NONE)

    def fate(self) -> None:
        """Something happens to a host."""
        host_id = self.chance.choice(sorted(self.offers))
        offer = self.offers[host_id]
        match self.chance.randrange(6):
            case 0:
                self.offers[host_id] = replace(offer, absent_since=self.now)
            case 1 | 2:
                self.offers[host_id] = replace(offer, absent_since=None)
            case 3:
                self.offers[host_id] = replace(offer, standing=Standing.DRAINING)
            case _:
                self.offers[host_id] = replace(offer, standing=Standing.OPEN)

    def pass_time(self) -> None:
        self.now += timedelta(seconds=self.chance.choice([1, 1, 1, 5, 100, 400]))
        for instance_id, (instance, _) in self.instances.items():
            away = self.offers[instance.host_id].absent_since
            # The fence: an exclusive instance stops by itself before anybody else may start it.
            if away is not None and (self.now - away).total_seconds() >= RESCHEDULE - 70:
                self.runs.discard(instance_id)

    def with_leaving(self) -> None:
        """As the offers of the next look are read."""
        leaving = {one.host_id for one, _ in self.instances.values() if one.desired_state is DesiredState.REMOVED}
        for host_id, offer in self.offers.items():
            gone = frozenset({"web"}) if host_id in leaving else frozenset()
            self.offers[host_id] = replace(offer, taken_names=gone)

    def check(self) -> None:
        twice = {name: n for name, n in Counter(self.names[one] for one in self.runs).items() if n > 1}
        assert not twice, f"{twice} run twice"
        wanted = Counter(one.name for one, _ in self.instances.values() if one.desired_state is DesiredState.RUNNING)
        assert not [name for name, count in wanted.items() if count > 1]


def run(seed: int, steps: int = 120) -> World:
    chance = random.Random(seed)
    spread = (Spread("idc", 2),) if chance.random() < 0.5 else ()
    world = World(chance, Rules(chance.randint(1, 4), spread=spread))
    for _ in range(steps):
        if chance.random() < 0.25:
            world.fate()
        world.pass_time()
        world.with_leaving()
        world.look()
        world.check()
        world.hosts_work()
        world.check()
    return world


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_no_slot_runs_twice_and_all_are_served_in_the_end(seed: int) -> None:
    world = run(seed)
    for host_id, offer in world.offers.items():
        world.offers[host_id] = replace(offer, absent_since=None, standing=Standing.OPEN)
    for _ in range(40):
        world.with_leaving()
        world.look()
        world.hosts_work()
        world.check()
        world.now += timedelta(seconds=2)
    assert world.unplaced == 0
    assert sorted(world.slots) == sorted(set(world.slots))
    assert {world.instances[slot.instance_id][1].phase for slot in world.slots.values()} == {Phase.RUNNING}
    assert len(world.slots) == world.rules.count
    assert len(world.instances) == world.rules.count, "nothing is left over"
