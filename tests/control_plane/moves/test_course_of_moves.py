"""The course of a move against two hosts that are slow, cut off, killed, told late, and a centre that restarts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from common.digest import Digest
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
from control_plane.instances.observations import Effect, Observation, effect_of, status_after
from control_plane.moves.assignments import heard
from control_plane.moves.course import Sight, entered, next_stage
from control_plane.moves.model import ENDED, Move, Patience, Stage
from control_plane.moves.telling import Wish, wish_for

START = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE = Patience()
SOURCE, TARGET = "source", "target"
IMAGE = InstanceImage("acme/system:1", "acme/system", "1", ImageContent(Digest.of(b"manifest"), 8, "text/plain"), ())


def instance_at(host: str = SOURCE, desired: DesiredState = DesiredState.RUNNING, generation: int = 2) -> Instance:
    return Instance("i", "t", "acme", host, "east", "vps", IMAGE, InstanceSpec(), desired, generation, 0, START, START)


def move_in(stage: Stage = Stage.STOPPING, **more: object) -> Move:
    made = Move(
        "m",
        "i",
        "t",
        "acme",
        "vps",
        SOURCE,
        "east",
        TARGET,
        "west",
        stage,
        2,
        "olga",
        START,
        START,
        START,
        START + timedelta(hours=1),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def sight(seconds: float = 0, instance: Instance | None = None, **more: object) -> Sight:
    status = more.pop("status", Status())
    made = Sight(instance or instance_at(), status, START + timedelta(seconds=seconds), START)  # type: ignore[arg-type]
    return replace(made, **more)  # type: ignore[arg-type]


def status(phase: Phase, generation: int = 2, health: Health = Health.NONE, seconds: float = 0) -> Status:
    return Status(generation, phase, health, "it said so", reported_at=START + timedelta(seconds=seconds))


STOPPED, RUNS = status(Phase.STOPPED), status(Phase.RUNNING)


@pytest.mark.parametrize(
    ("move", "seen", "stage"),
    [
        (move_in(), sight(), Stage.STOPPING),
        (move_in(), sight(status=status(Phase.STOPPED, 1)), Stage.STOPPING),  # it speaks of before
        (move_in(), sight(status=STOPPED), Stage.COPYING),
        (move_in(), sight(300, status=RUNS), Stage.FAILED),
        (move_in(cancelled_by="olga"), sight(status=STOPPED), Stage.CANCELLED),
        (move_in(), sight(status=STOPPED, target_there=False), Stage.FAILED),
        (move_in(Stage.COPYING), sight(299), Stage.COPYING),
        (move_in(Stage.COPYING), sight(300), Stage.FAILED),  # nothing came
        (move_in(Stage.COPYING, copying=True), sight(300), Stage.COPYING),
        (move_in(Stage.COPYING, copying=True), sight(3600), Stage.FAILED),
        (move_in(Stage.COPYING, copying=True), sight(300, target_absent_since=START), Stage.FAILED),
        (move_in(Stage.COPYING, trouble="no room", trouble_is_final=True), sight(), Stage.FAILED),
        (move_in(Stage.COPYING, trouble="no line"), sight(), Stage.COPYING),
        (move_in(Stage.COPYING, taken=True), sight(), Stage.STARTING),
        (move_in(Stage.COPYING, taken=True), sight(room="it is full"), Stage.FAILED),
        (move_in(Stage.COPYING, taken=True, cancelled_by="olga"), sight(), Stage.CANCELLED),
        (move_in(Stage.COPYING), sight(instance=instance_at(desired=DesiredState.REMOVED)), Stage.CANCELLED),
        (move_in(Stage.STARTING), sight(4, status=RUNS), Stage.STARTING),
        (move_in(Stage.STARTING), sight(5, status=RUNS), Stage.PROVING),
        (move_in(Stage.PROVING), sight(status=status(Phase.RUNNING, 1)), Stage.PROVING),
        (move_in(Stage.PROVING), sight(status=RUNS), Stage.CLEARING),
        (move_in(Stage.PROVING, cancelled_by="olga"), sight(status=STOPPED), Stage.RETURNING),
        (move_in(Stage.STARTING), sight(5, status=status(Phase.RUNNING, 1)), Stage.STARTING),
        (move_in(Stage.STARTING), sight(60, status=RUNS, target_absent_since=START), Stage.STARTING),
        (move_in(Stage.STARTING), sight(5, status=status(Phase.RUNNING, 2, Health.STARTING)), Stage.STARTING),
        (move_in(Stage.STARTING), sight(300, status=status(Phase.RUNNING, 2, Health.UNHEALTHY)), Stage.RETURNING),
        (move_in(Stage.STARTING), sight(29, status=status(Phase.FAILED)), Stage.STARTING),
        (move_in(Stage.STARTING), sight(30, status=status(Phase.FAILED)), Stage.RETURNING),
        (move_in(Stage.STARTING, cancelled_by="olga"), sight(status=RUNS), Stage.RETURNING),
        (move_in(Stage.STARTING), sight(5, instance_at(desired=DesiredState.STOPPED), status=STOPPED), Stage.PROVING),
        (move_in(Stage.STARTING), sight(target_there=False), Stage.RETURNING),
        (move_in(Stage.STARTING), sight(300, source_there=False), Stage.CLEARING),  # nothing to go back to
        (move_in(Stage.RETURNING), sight(status=status(Phase.REMOVED, 1)), Stage.RETURNING),
        (move_in(Stage.RETURNING), sight(status=status(Phase.REMOVED)), Stage.FAILED),
        (move_in(Stage.RETURNING, cancelled_by="olga"), sight(status=status(Phase.REMOVED)), Stage.CANCELLED),
        (move_in(Stage.RETURNING), sight(179, target_absent_since=START), Stage.RETURNING),
        (move_in(Stage.RETURNING), sight(180, target_absent_since=START), Stage.FAILED),
        (move_in(Stage.RETURNING), sight(179, target_there=False), Stage.RETURNING),
        (move_in(Stage.RETURNING), sight(180, target_there=False), Stage.FAILED),
        (move_in(Stage.CLEARING), sight(86_400), Stage.CLEARING),
        (move_in(Stage.CLEARING, gone=True), sight(), Stage.DONE),
        (move_in(Stage.CLEARING), sight(source_there=False), Stage.DONE),
        (move_in(Stage.DONE), sight(), Stage.DONE),
    ],
)
def test_the_next_stage(move: Move, seen: Sight, stage: Stage) -> None:
    assert next_stage(move, seen, PATIENCE)[0] is stage


def test_an_instance_that_was_forgotten_moves_no_more() -> None:
    for stage in Stage:
        assert next_stage(move_in(stage), replace(sight(), instance=None), PATIENCE)[0] is Stage.DONE


def test_a_control_plane_that_was_away_waits_for_hosts_before_it_calls_them_away() -> None:
    seen = sight(1000, target_absent_since=START, watched_since=START + timedelta(seconds=900))
    assert next_stage(move_in(Stage.RETURNING), seen, PATIENCE)[0] is Stage.RETURNING


def test_in_no_stage_two_hosts_are_told_to_run_it() -> None:
    for stage in Stage:
        for holder in (SOURCE, TARGET):
            wishes = [
                wish_for(move_in(stage), DesiredState.RUNNING, one, has_it=one == holder) for one in (SOURCE, TARGET)
            ]
            running = [wish for wish in wishes if wish and wish.desired_state is DesiredState.RUNNING]
            assert len(running) <= 1


@dataclass
class _Host:
    """What one host does: it obeys the last set that it heard, and stops what is fenced once it is cut off."""

    name: str
    told: tuple[int, Wish | None] = (0, None)
    has: str = ""  # "": nothing; "original", "copy"
    runs: bool = False
    cut_off_since: datetime | None = None
    said: list[Observation] = field(default_factory=list)
    good: bool = True


class MovesUnderFaults(RuleBasedStateMachine):
    """At no time both hosts run the instance, and what stands at the source is there until it is well at the target."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.watched_since = START
        self.move = move_in()
        self.instance = instance_at()
        self.status = RUNS
        self.source = _Host(SOURCE, (1, Wish(DesiredState.RUNNING)), "original", runs=True)
        self.target = _Host(TARGET)
        self.hosts = {SOURCE: self.source, TARGET: self.target}

    # The centre.

    @rule()
    def look(self) -> None:
        if self.move.stage in ENDED:
            return
        seen = Sight(
            self.instance,
            self.status,
            self.now,
            self.watched_since,
            target_absent_since=self.target.cut_off_since,
        )
        stage, why = next_stage(self.move, seen, PATIENCE)
        if stage is self.move.stage:
            return
        generation = self.instance.generation + 1
        if stage is Stage.STARTING:
            self.instance = replace(self.instance, host_id=TARGET)
        elif self.move.stage is Stage.RETURNING:
            self.instance = replace(self.instance, host_id=SOURCE)
        self.instance = replace(self.instance, generation=generation)
        self.move = entered(self.move, stage, why, generation, self.now)

    @rule()
    def the_centre_restarts(self) -> None:
        self.watched_since = self.now

    @rule()
    def somebody_cancels(self) -> None:
        if self.move.stage in (Stage.STOPPING, Stage.COPYING, Stage.STARTING, Stage.PROVING):
            self.move = replace(self.move, cancelled_by="olga")

    @rule(wanted=st.sampled_from([DesiredState.RUNNING, DesiredState.STOPPED]))
    def somebody_starts_or_stops_it(self, wanted: DesiredState) -> None:
        if wanted is not self.instance.desired_state:
            generation = self.instance.generation + 1
            self.instance = replace(self.instance, desired_state=wanted, generation=generation)

    # The hosts.

    @rule(name=st.sampled_from([SOURCE, TARGET]))
    def a_host_hears(self, name: str) -> None:
        host = self.hosts[name]
        if host.cut_off_since is None:
            wish = wish_for(self.move, self.instance.desired_state, name, has_it=self.instance.host_id == name)
            host.told = (self.instance.generation, wish)

    @rule(name=st.sampled_from([SOURCE, TARGET]))
    def a_host_obeys(self, name: str) -> None:
        host = self.hosts[name]
        _, wish = host.told
        if wish is None or wish.desired_state is DesiredState.REMOVED:
            host.has, host.runs = "", False
        elif wish.take_over and wish.desired_state is DesiredState.HELD:
            # Somebody is cut off, or what stands at the source is not handed over: nothing comes.
            if self.source.told[1] and self.source.told[1].hand_over and self.source.has and not self.source.runs:
                host.has = "copy"
            host.runs = False
        elif wish.desired_state is DesiredState.RUNNING:
            fenced = wish.fenced and host.cut_off_since is not None
            if not wish.take_over or host.has == "copy":
                host.has = host.has or "anew"
                host.runs = not (fenced and self.now - self._cut(host) >= PATIENCE.cut_off) and host.good
        else:
            host.runs = False

    @rule(name=st.sampled_from([SOURCE, TARGET]))
    def a_host_says(self, name: str) -> None:
        host = self.hosts[name]
        generation, wish = host.told
        if wish is None:
            return
        if wish.desired_state is DesiredState.REMOVED:
            phase = Phase.REMOVED if not host.has else Phase.PENDING
        elif wish.take_over and not host.has:
            phase = Phase.FETCHING if wish.desired_state is DesiredState.HELD else Phase.FAILED
        elif wish.desired_state is DesiredState.RUNNING:
            phase = Phase.RUNNING if host.runs else Phase.FAILED
        else:
            phase = Phase.STOPPED if not host.runs else Phase.PENDING
        host.said.append(Observation("i", generation, phase, Health.NONE))

    @rule(name=st.sampled_from([SOURCE, TARGET]))
    def the_centre_hears(self, name: str) -> None:
        host = self.hosts[name]
        assume(host.said and host.cut_off_since is None)
        said = host.said.pop(0)
        if self.instance.host_id == name and effect_of(said, self.instance.wish, self.status) is Effect.CHANGED:
            self.status = status_after(said, self.now)
        if self.move.stage not in ENDED:
            self.move = heard(self.move, name, said, self.now)

    @initialize(
        stage=st.sampled_from([Stage.COPYING, Stage.STARTING, Stage.RETURNING, Stage.CLEARING]),
        cut=st.sampled_from([(), (SOURCE,), (TARGET,), (TARGET,), (SOURCE, TARGET)]),
        cancelled=st.booleans(),
        bad=st.sampled_from([False, False, True]),
        seconds=st.sampled_from([1, 31, 61]),
        rounds=st.integers(1, 6),
    )
    def trouble_in_that_stage(
        self, stage: Stage, cut: tuple[str, ...], cancelled: bool, bad: bool, seconds: int, rounds: int
    ) -> None:
        """Chance alone would seldom come to where it matters."""
        for _ in range(7):
            if self.move.stage is not stage:
                self.one_good_round(1)
        for name in self.hosts:
            self.a_host_hears(name)
            self.a_host_obeys(name)
            self.never_two()
        for name in cut:
            self.a_host_is_cut_off(name)
        if bad and self.target.has == "copy" and self.move.stage in (Stage.COPYING, Stage.STARTING, Stage.PROVING):
            self.target.has, self.target.runs = "", False  # its engine lost it
        if cancelled:
            self.somebody_cancels()
        for _ in range(rounds):
            self.one_good_round(seconds)

    def one_good_round(self, seconds: int) -> None:
        for name, host in self.hosts.items():
            self.a_host_hears(name)
            self.a_host_obeys(name)
            self.never_two()
            self.never_none_for_good()
            self.a_host_says(name)
            while host.said and host.cut_off_since is None:
                self.the_centre_hears(name)
        self.look()
        self.time_passes(seconds)

    @rule(name=st.sampled_from([SOURCE, TARGET]))
    def a_host_is_cut_off(self, name: str) -> None:
        self.hosts[name].cut_off_since = self.hosts[name].cut_off_since or self.now

    @rule(name=st.sampled_from([SOURCE, TARGET]))
    def a_host_is_back(self, name: str) -> None:
        self.hosts[name].cut_off_since = None

    @rule()
    def it_does_not_run_at_the_target(self) -> None:
        self.target.good, self.target.runs = False, False

    @rule(seconds=st.sampled_from([1, 6, 31, 61, 301]))
    def time_passes(self, seconds: int) -> None:
        """In steps that no host sleeps through: it stops what is fenced when its time is over."""
        self.now += timedelta(seconds=seconds)
        for host in self.hosts.values():
            wish = host.told[1]
            if host.cut_off_since and wish and wish.fenced and self.now - self._cut(host) >= PATIENCE.cut_off:
                host.runs = False

    def _cut(self, host: _Host) -> datetime:
        assert host.cut_off_since is not None
        return host.cut_off_since

    @invariant()
    def never_two(self) -> None:
        assert not (self.source.runs and self.target.runs)

    @invariant()
    def never_none_for_good(self) -> None:
        """Somewhere is what the instance wrote, and never a new beginning in its place."""
        assert "anew" not in (self.source.has, self.target.has)
        assert self.source.has == "original" or self.target.has == "copy"

    @precondition(lambda self: self.move.stage in ENDED)
    @invariant()
    def it_is_where_it_is_said_to_be(self) -> None:
        assert self.instance.host_id == (TARGET if self.move.stage is Stage.DONE else SOURCE)

    def teardown(self) -> None:
        """Once everything answers again, the move comes to its end, and the instance is as it is wished."""
        for _ in range(40):
            for name in self.hosts:
                self.a_host_is_back(name)
                self.a_host_hears(name)
                self.a_host_obeys(name)
                self.never_two()
                self.a_host_says(name)
                while self.hosts[name].said:
                    self.the_centre_hears(name)
            self.look()
            self.never_two()
            self.never_none_for_good()
            self.time_passes(31)
        assert self.move.stage in ENDED
        wanted = self.instance.desired_state is DesiredState.RUNNING
        there = self.target if self.move.stage is Stage.DONE else self.source
        other = self.source if there is self.target else self.target
        assert (there.runs, other.runs, other.has) == (wanted and there.good, False, "")


TestMovesUnderFaults = MovesUnderFaults.TestCase
TestMovesUnderFaults.settings = settings(max_examples=150, stateful_step_count=15, deadline=None)
