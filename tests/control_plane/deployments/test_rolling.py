"""Rollouts against hosts that answer late, fail, go away and come back.

Pure: no database, no clock. Whatever happens, and whatever the pace: who serves is told only while enough others serve,
never more are under way than the pace allows, canaries come first, a bad image stops at the first who fail, and in the
end everybody runs one revision.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from common.digest import Digest
from control_plane.deployments.converging import _course
from control_plane.deployments.course import next_course
from control_plane.deployments.model import Deployment, OnFailure, Pace, Revision, Rollout, RolloutState, Slot
from control_plane.deployments.picture import Course, Picture
from control_plane.fleet.placement.model import Capacity, Offer, Resources, Rules
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
from control_plane.instances.transitions import revised

START = datetime(2026, 1, 1, tzinfo=UTC)
HEALTHY = timedelta(seconds=10)


def image(name: str) -> InstanceImage:
    return InstanceImage(f"acme/web:{name}", "acme/web", name, ImageContent(Digest.of(name.encode()), 1, "m"), ())


def revision(number: int, name: str, spec: InstanceSpec | None = None) -> Revision:
    return Revision(number, f"acme/web:{name}", {"amd64": image(name)}, spec or InstanceSpec(), "", "olga", START)


@dataclass
class World:
    """The rows, and hosts that do what they are told when chance lets them. `bad`: images that no host can run."""

    chance: random.Random
    count: int
    pace: Pace
    bad: frozenset[str] = frozenset()
    room: int | None = None
    now: datetime = START
    slots: dict[int, Slot] = field(default_factory=dict)
    instances: dict[str, tuple[Instance, Status]] = field(default_factory=dict)
    offers: dict[str, Offer] = field(default_factory=dict)
    revisions: dict[int, Revision] = field(default_factory=lambda: {1: revision(1, "one")})
    target: int = 1
    rollout: Rollout = field(default_factory=Rollout)
    made: int = 0
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number in range(self.count + 2):
            capacity = Capacity(memory_bytes=self.room)
            self.offers[f"h{number}"] = Offer(f"h{number}", f"h{number}", "idc", "east", capacity=capacity)

    @property
    def deployment(self) -> Deployment:
        own = self.revisions[self.target]
        return Deployment(
            "d", "t", "acme", "web", own.reference, own.images, own.spec, Rules(self.count), DesiredState.RUNNING,
            0, False, False, "olga", START, START, revision=self.target, rollout=self.rollout,
        )  # fmt: skip

    def begin(self, name: str, spec: InstanceSpec | None = None, *, undoes: bool = False) -> None:
        self.target += 1
        self.revisions[self.target] = revision(self.target, name, spec)
        base = self.rollout.base
        self.rollout = Rollout(RolloutState.GOING, base, self.pace, began_at=self.now, undoes=undoes)

    def look(self) -> Course:
        used = {host: Resources() for host in self.offers}
        for instance, _ in self.instances.values():
            used[instance.host_id] = used[instance.host_id].plus(Resources(memory_bytes=instance.spec.memory_bytes))
        leaving = {one.host_id for one, _ in self.instances.values() if one.desired_state is DesiredState.REMOVED}
        offers = {
            host: replace(offer, used=used[host], taken_names=frozenset({"web"} if host in leaving else ()))
            for host, offer in self.offers.items()
        }
        picture = Picture(self.deployment, self.slots, self.instances, offers, {}, self.now, START, self.revisions)
        course = next_course(picture)
        self._hold(course)
        slots = dict(course.slots)
        for one in course.remove:
            instance, status = self.instances[one]
            self.instances[one] = replace(instance, desired_state=DesiredState.REMOVED, generation=99), status
        for creation in course.create:
            assert not creation.successor, "no host is drained here"
            made = self._make(creation.number, creation.host_id, self.revisions[creation.revision])
            slots[creation.number] = Slot(creation.number, made, creation.host_id, revision=creation.revision)
        own = self.revisions[self.target]
        for one in course.revise:
            instance, status = self.instances[one]
            self.instances[one] = revised(instance, own.images["amd64"], own.spec, self.now), status
            self.told.append(one)
        self.slots, self.rollout = slots, course.rollout
        if course.undo:
            former = self.revisions[self.rollout.base]
            self.begin(former.reference.rpartition(":")[2], former.spec, undoes=True)
        return course

    def _hold(self, course: Course) -> None:
        """What must hold of every decision, counted anew from the rows."""
        fresh = [one for one in course.create if one.revision == self.target]
        if self.rollout.state is RolloutState.FINISHED or not (course.revise or (fresh and self.target > 1)):
            return
        assert self.rollout.state is RolloutState.GOING
        same = self.revisions[self.target]
        target = [slot for slot in self.slots.values() if self.revisions[slot.revision].same_as(same)]
        under_way = [slot for slot in target if not self._well(slot)]
        window = self.pace.max_unavailable + self.pace.max_surge
        assert len(under_way) + len(course.revise) + len(fresh) <= window
        told = [slot for slot in self.slots.values() if slot.instance_id in course.revise]
        others = [slot for slot in self.slots.values() if slot not in told and slot not in under_way]
        if any(self._runs(slot) for slot in told):
            assert sum(self._runs(slot) for slot in others) >= self.count - self.pace.max_unavailable
        well = sum(self._well(slot) for slot in target)
        if well < min(self.pace.canaries, len(self.slots)):
            assert len(target) + len(course.revise) + len(fresh) <= self.pace.canaries

    def _runs(self, slot: Slot) -> bool:
        instance, status = self.instances.get(slot.instance_id, (None, Status()))
        if instance is None or self.offers[slot.host_id].absent_since is not None:
            return False
        return status.phase is Phase.RUNNING and status.observed_generation == instance.generation

    def _well(self, slot: Slot) -> bool:
        if not self._runs(slot):
            return False
        said_at = self.instances[slot.instance_id][1].reported_at
        return said_at is not None and self.now - said_at >= HEALTHY

    def _make(self, number: int, host_id: str, made_of: Revision) -> str:
        self.made += 1
        made = f"i{self.made:04}"
        assert not [one for one, _ in self.instances.values() if (one.host_id, one.name) == (host_id, f"web-{number}")]
        instance = Instance(
            made, "t", "acme", host_id, "", f"web-{number}", made_of.images["amd64"], made_of.spec,
            DesiredState.RUNNING, 1, 0, self.now, self.now,
        )  # fmt: skip
        self.instances[made] = instance, Status()
        return made

    def hosts_work(self, laziness: float = 0.4) -> None:
        for instance_id, (instance, status) in list(self.instances.items()):
            if self.offers[instance.host_id].absent_since is not None or self.chance.random() < laziness:
                continue
            if instance.desired_state is DesiredState.REMOVED:
                del self.instances[instance_id]
                continue
            bad = instance.image.tag in self.bad
            phase = Phase.FAILED if bad else self.chance.choice([Phase.FETCHING, Phase.RUNNING, Phase.RUNNING])
            if status.observed_generation == instance.generation and status.phase is Phase.RUNNING:
                phase = Phase.RUNNING
            said = Status(instance.generation, phase, Health.NONE, "it does not start" if bad else "")
            if replace(said, reported_at=status.reported_at) != status:
                self.instances[instance_id] = instance, replace(said, reported_at=self.now)

    def fate(self) -> None:
        host_id = self.chance.choice(sorted(self.offers))
        absent = self.now if self.chance.random() < 0.4 else None
        self.offers[host_id] = replace(self.offers[host_id], absent_since=absent)

    def heal(self) -> None:
        self.offers = {host: replace(offer, absent_since=None) for host, offer in self.offers.items()}

    def settle(self, rounds: int = 400) -> None:
        for _ in range(rounds):
            self.now += timedelta(seconds=self.chance.choice([1, 2, 5, 11]))
            self.look()
            self.hosts_work()
            if self.rollout.state is not RolloutState.GOING and not self._busy():
                return

    def _busy(self) -> bool:
        removed = any(one.desired_state is DesiredState.REMOVED for one, _ in self.instances.values())
        return removed or len(self.slots) != self.count or not all(self._well(slot) for slot in self.slots.values())

    def runs(self) -> list[str]:
        return sorted(instance.image.tag for instance, _ in self.instances.values())


def ready(chance: random.Random, count: int, pace: Pace, **more: object) -> World:
    world = World(chance, count, pace, **more)  # type: ignore[arg-type]
    world.settle()
    assert world.runs() == ["one"] * count
    return world


paces = st.builds(
    Pace,
    max_unavailable=st.integers(0, 3),
    max_surge=st.integers(0, 2),
    canaries=st.integers(0, 2),
    healthy=st.just(HEALTHY),
    patience=st.just(timedelta(hours=9)),
).filter(lambda pace: pace.max_unavailable + pace.max_surge > 0)
several = settings(max_examples=60, deadline=None)


@several
@given(st.integers(0, 1 << 30), st.integers(1, 6), paces)
def test_whatever_happens_all_run_the_new_revision_in_the_end(seed: int, count: int, pace: Pace) -> None:
    world = ready(random.Random(seed), count, pace)
    world.begin("two")
    for _ in range(60):
        world.now += timedelta(seconds=world.chance.choice([1, 1, 5, 30]))
        if world.chance.random() < 0.2:
            world.fate()
        if world.chance.random() < 0.02:
            world.begin(world.chance.choice(["two", "three"]))
        world.look()
        world.hosts_work()
    world.heal()
    world.settle()
    wanted = world.revisions[world.target].reference.rpartition(":")[2]
    assert (world.rollout.state, world.rollout.base) == (RolloutState.FINISHED, world.target)
    assert world.runs() == [wanted] * count


@several
@given(st.integers(0, 1 << 30), st.integers(1, 6), paces)
def test_a_bad_image_stops_with_the_first_who_fail(seed: int, count: int, pace: Pace) -> None:
    world = ready(random.Random(seed), count, pace, bad=frozenset({"bad"}))
    world.begin("bad")
    world.settle()
    window = pace.max_unavailable + pace.max_surge
    first = min(window, pace.canaries or window)
    assert world.rollout.state is RolloutState.PAUSED
    assert "it does not start" in world.rollout.reason
    assert 1 <= world.runs().count("bad") <= first
    assert world.runs().count("one") >= count - pace.max_unavailable
    world.begin("one")
    world.settle()
    assert world.runs() == ["one"] * count


@several
@given(st.integers(0, 1 << 30), st.integers(1, 6), paces)
def test_a_failure_is_taken_back_if_that_is_wished(seed: int, count: int, pace: Pace) -> None:
    world = ready(random.Random(seed), count, replace(pace, on_failure=OnFailure.UNDO), bad=frozenset({"bad"}))
    world.begin("bad")
    world.settle()
    assert (world.rollout.state, world.target) == (RolloutState.FINISHED, 3)
    assert world.runs() == ["one"] * count


def test_an_undoing_that_fails_stands_still() -> None:
    pace = Pace(healthy=HEALTHY, on_failure=OnFailure.UNDO)
    world = ready(random.Random(1), 2, pace)
    world.bad = frozenset({"bad", "one"})
    world.instances = {
        one: (known, replace(said, observed_generation=1)) for one, (known, said) in world.instances.items()
    }
    world.begin("bad")
    world.settle(60)
    assert (world.rollout.state, world.rollout.undoes) == (RolloutState.PAUSED, True)


def test_a_failure_may_be_forgiven_and_stands_again_after_patience() -> None:
    pace = Pace(healthy=HEALTHY, patience=timedelta(seconds=60))
    world = ready(random.Random(1), 3, pace, bad=frozenset({"bad"}))
    world.begin("bad")
    world.settle()
    world.rollout = replace(world.rollout, state=RolloutState.GOING, resumed_at=world.now)
    world.now += timedelta(seconds=59)
    assert world.look().rollout.state is RolloutState.GOING
    world.now += timedelta(seconds=2)
    assert "not well within 60 s" in world.look().rollout.reason
    assert world.runs().count("bad") == 1


def test_a_long_download_is_no_failure() -> None:
    pace = Pace(healthy=HEALTHY, patience=timedelta(seconds=60))
    world = ready(random.Random(1), 2, pace)
    world.begin("two")
    world.look()
    (told,) = world.told
    instance, _ = world.instances[told]
    world.instances[told] = instance, Status(instance.generation, Phase.FETCHING, reported_at=world.now)
    for _ in range(20):
        world.now += timedelta(seconds=31)
        world.look()
    assert world.rollout.state is RolloutState.GOING
    world.instances[told] = instance, Status(instance.generation, Phase.CREATING, reported_at=world.now)
    world.now += timedelta(seconds=29)
    assert world.look().rollout.state is RolloutState.GOING
    world.now += timedelta(seconds=62)
    assert world.look().rollout.state is RolloutState.PAUSED


def test_who_is_away_is_told_in_its_turn_when_it_is_back() -> None:
    world = ready(random.Random(1), 3, Pace(max_unavailable=2, healthy=HEALTHY))
    away = world.slots[1].host_id
    world.offers[away] = replace(world.offers[away], absent_since=world.now)
    world.begin("two")
    world.settle(80)
    assert world.rollout.state is RolloutState.GOING
    assert world.rollout.reason == "web-1: its host is away"
    assert world.runs() == ["one", "two", "two"]
    world.heal()
    world.settle()
    assert world.runs() == ["two"] * 3


def test_what_asks_for_more_than_its_host_has_waits_and_says_so() -> None:
    world = ready(random.Random(1), 2, Pace(healthy=HEALTHY), room=100)
    world.begin("two", InstanceSpec(memory_bytes=101))
    world.settle(40)
    assert world.rollout.reason == "web-0: too little memory is free; web-1: too little memory is free"
    assert world.runs() == ["one", "one"]
    world.begin("two", InstanceSpec(memory_bytes=100))
    world.settle()
    assert world.runs() == ["two", "two"]


def test_what_runs_the_same_already_is_told_nothing() -> None:
    world = ready(random.Random(1), 3, Pace(healthy=HEALTHY))
    world.begin("one")
    world.settle()
    assert (world.told, world.rollout.state, world.rollout.base) == ([], RolloutState.FINISHED, 2)


async def test_a_large_fleet_is_planned_beside_the_event_loop_and_alike() -> None:
    world = World(random.Random(1), 600, Pace())
    picture = Picture(world.deployment, {}, {}, world.offers, {}, START, START, world.revisions)
    assert await _course(picture) == next_course(picture)
