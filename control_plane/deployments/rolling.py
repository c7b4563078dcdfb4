"""How the slots of a deployment come from one revision to the next; pure.

Invariants (tests/control_plane/deployments/test_rolling.py holds them with random fates): a slot that serves is told
only while at least `count - max_unavailable` of the others serve; nobody is told while `max_unavailable + max_surge`
are under way to the new revision, told but not yet well; nobody beyond the canaries is told before those are well; and
nobody at all once more than `max_failures` failed, until somebody resumes.

An instance is changed where it is: its host fetches what is new while the old container runs, and brings that one back
if the new one is refused. Who serves least is told first. A slot whose host is away is told when it is back, in its
turn: else the hosts of a data centre that was cut off would all change at once when the line is mended.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from control_plane.deployments.model import OnFailure, Rollout, RolloutState, Slot, asked_by
from control_plane.deployments.picture import Course, Picture, serves, works
from control_plane.fleet.placement.fitting import lacking
from control_plane.fleet.placement.model import NOTHING, Resources
from control_plane.instances.model import DesiredState, Health, Instance, Phase, Status

_NAMED = 3
_ALL = 1 << 30
# How often a download that lasts is written down as one.
_NOTED = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class _Seen:
    """current: it was told, or made with, the new revision. well: it has it, and was well for long enough. failed: why
    it counts as failed; empty: it does not. away: nothing can be told or heard there.
    """

    slot: Slot
    current: bool
    serves: bool
    well: bool
    failed: str
    away: bool

    @property
    def under_way(self) -> bool:
        return self.current and not self.well

    @property
    def counts(self) -> bool:
        """Whether it is one of those that serve: a new one only once it is well."""
        return self.well if self.current else self.serves


def surge(picture: Picture, course: Course) -> int:
    """How many slots more than wanted there may be now."""
    count, rollout = picture.deployment.rules.count, picture.deployment.rollout
    if count is None or rollout.state is RolloutState.FINISHED:
        return 0
    extra = max(0, len(course.slots) - count)
    if rollout.state is RolloutState.PAUSED:
        return min(rollout.pace.max_surge, extra)
    seen = _look(picture, course)
    free = _window(rollout) - sum(one.under_way for one in seen)
    return min(rollout.pace.max_surge, extra + max(0, min(free, _canaries_left(seen, rollout.pace.canaries, 0))))


def weak(picture: Picture, course: Course) -> frozenset[int]:
    """The slots that are given up first while a rollout is under way: they serve least."""
    if picture.deployment.rollout.state is RolloutState.FINISHED:
        return frozenset()
    return frozenset(one.slot.number for one in _look(picture, course) if not one.counts)


def revision_of_new(picture: Picture, course: Course) -> int:
    """Of a slot that is made now."""
    deployment = picture.deployment
    there = len(course.slots) + sum(not one.successor for one in course.create)
    beyond = deployment.rules.count is not None and there >= deployment.rules.count
    going = deployment.rollout.state is RolloutState.GOING
    return deployment.revision if beyond and going else deployment.rollout.base


def roll(picture: Picture, course: Course) -> None:
    """Who is told now; or that it stands, is taken back, or has come to its end."""
    rollout = picture.deployment.rollout
    if rollout.state is RolloutState.FINISHED:
        return
    seen = _look(picture, course)
    fresh = [one for one in course.create if not one.successor]
    if rollout.state is not RolloutState.GOING:
        return
    if not fresh and all(one.current and one.well for one in seen):
        course.rollout = replace(
            rollout, state=RolloutState.FINISHED, base=picture.deployment.revision, reason="", ended_at=picture.now
        )
        course.soon = True
        return
    failed = [one for one in seen if one.failed]
    if len(failed) > rollout.pace.max_failures:
        course.rollout = replace(rollout, state=RolloutState.PAUSED, reason=_what_failed(picture, failed))
        course.undo = rollout.pace.on_failure is OnFailure.UNDO and not rollout.undoes
        course.soon = course.undo
        return
    waits = _tell(picture, course, seen, sum(one.revision == picture.deployment.revision for one in fresh))
    _note_downloads(picture, course, seen)
    course.soon = bool(course.revise) or bool(fresh) or any(one.under_way and not one.away for one in seen)
    course.rollout = replace(rollout, reason="" if course.revise else waits)


def _tell(picture: Picture, course: Course, seen: Sequence[_Seen], made: int) -> str:
    """What keeps the others, if nobody is told. `made`: slots that are made with the new revision now."""
    pace, deployment = picture.deployment.rollout.pace, picture.deployment
    wanted = len(seen) if deployment.rules.count is None else deployment.rules.count
    serving = sum(one.counts for one in seen)
    under_way = sum(one.under_way for one in seen) + made
    allowance = min(_window(deployment.rollout) - under_way, _canaries_left(seen, pace.canaries, made))
    taken: defaultdict[str, Resources] = defaultdict(lambda: NOTHING)
    reasons: Counter[str] = Counter()
    for one in sorted((one for one in seen if not one.current), key=_order(deployment.rollout)):
        more = _more(picture, one.slot)
        short = _cannot(picture, course, one) or lacking(
            picture.offers[one.slot.host_id], more, taken[one.slot.host_id]
        )
        if short:
            reasons[f"{deployment.instance_name(one.slot.number)}: {short}"] += 1
            continue
        if allowance <= 0 or (one.serves and serving - 1 < wanted - pace.max_unavailable):
            continue
        allowance, serving = allowance - 1, serving - one.serves
        taken[one.slot.host_id] = taken[one.slot.host_id].plus(more)
        course.slots[one.slot.number] = replace(one.slot, revision=deployment.revision, told_at=picture.now)
        course.revise.append(one.slot.instance_id)
    named = list(reasons)[:_NAMED]
    left = len(reasons) - len(named)
    return "; ".join(named) + (f"; and {left} more" if left else "")


def _order(rollout: Rollout) -> Callable[[_Seen], tuple[bool, bool, int]]:
    """Who serves least first; then what an earlier rollout has changed, so that the fewest revisions are mixed."""
    return lambda one: (one.serves, one.slot.revision == rollout.base, one.slot.number)


def _canaries_left(seen: Sequence[_Seen], canaries: int, made: int) -> int:
    """How many may be told as far as canaries go: the rest of them, and all others once they are well."""
    told = sum(one.current for one in seen) + made
    if sum(one.current and one.well for one in seen) >= min(canaries, len(seen)):
        return _ALL
    return max(0, canaries - told)


def _cannot(picture: Picture, course: Course, one: _Seen) -> str:
    """Why the slot cannot be told now, whatever the pace; empty if it can."""
    found = picture.instances.get(one.slot.instance_id)
    if one.away or found is None:
        return "its host is away"
    if one.slot.successor_id or any(made.number == one.slot.number for made in course.create):
        return "it moves to another host"
    if found[0].desired_state is DesiredState.REMOVED or one.slot.instance_id in course.remove:
        return "it is being removed"
    if picture.offers[one.slot.host_id].architecture not in picture.deployment.images:
        return "the image is not made for its host"
    return ""


def _more(picture: Picture, slot: Slot) -> Resources:
    """What the new revision asks for beyond what the instance has already."""
    found = picture.instances.get(slot.instance_id)
    return picture.deployment.ask.beyond(NOTHING if found is None else asked_by(found[0].spec))


def renumber(picture: Picture, course: Course) -> None:
    """Who runs the same under another number needs to be told nothing. Comes before all else."""
    target = picture.deployment.own_revision
    for number, slot in course.slots.items():
        if slot.revision != target.number and picture.revision(slot.revision).same_as(target):
            course.slots[number] = replace(slot, revision=target.number, told_at=None)


def _note_downloads(picture: Picture, course: Course, seen: Sequence[_Seen]) -> None:
    """Patience begins when there is something to start."""
    for one in seen:
        found = picture.instances.get(one.slot.instance_id)
        if found is None or not one.under_way or found[1].phase is not Phase.FETCHING:
            continue
        if picture.now - (one.slot.told_at or found[0].updated_at) >= _NOTED:
            course.slots[one.slot.number] = replace(course.slots[one.slot.number], told_at=picture.now)


def _look(picture: Picture, course: Course) -> list[_Seen]:
    return [_seen(picture, course, slot) for _, slot in sorted(course.slots.items())]


def _seen(picture: Picture, course: Course, slot: Slot) -> _Seen:
    current = slot.revision == picture.deployment.revision
    offer, found = picture.offers.get(slot.host_id), picture.instances.get(slot.instance_id)
    away = offer is None or offer.absent_since is not None
    if found is None or slot.instance_id in course.remove:
        return _Seen(slot, current, serves=False, well=False, failed="", away=away)
    instance, status = found
    well = current and not away and _well(picture, instance, status)
    failed = "" if well or away or not current else _failed(picture, slot, instance, status)
    return _Seen(slot, current, serves(picture, slot), well, failed, away)


def _well(picture: Picture, instance: Instance, status: Status) -> bool:
    if status.observed_generation < instance.generation or not works(instance, status):
        return False
    if instance.desired_state is not DesiredState.RUNNING:
        return True
    return status.health is not Health.STARTING and _stands(picture, status)


def _stands(picture: Picture, status: Status) -> bool:
    """Whether what the host said last has been so for as long as being well takes."""
    said_at = status.reported_at or picture.now
    return picture.now - said_at >= picture.deployment.rollout.pace.healthy


def _failed(picture: Picture, slot: Slot, instance: Instance, status: Status) -> str:
    """A failure must stand as long as being well must: hosts try again by themselves."""
    rollout = picture.deployment.rollout
    spoken = status.observed_generation >= instance.generation
    forgiven = rollout.resumed_at is not None and (status.reported_at or picture.now) <= rollout.resumed_at
    if spoken and not forgiven and _stands(picture, status):
        if status.phase is Phase.FAILED:
            return status.detail or "it failed"
        if status.health is Health.UNHEALTHY:
            return status.detail or "it is not healthy"
    if spoken and status.phase is Phase.FETCHING:
        return ""
    since = max(one for one in (slot.told_at or instance.updated_at, rollout.resumed_at) if one is not None)
    if picture.now - since <= rollout.pace.patience:
        return ""
    waited = f"{rollout.pace.patience.total_seconds():.0f} s"
    return f"it was not well within {waited}, it is {status.phase.value}" + (
        f": {status.detail}" if status.detail else ""
    )


def _what_failed(picture: Picture, failed: Sequence[_Seen]) -> str:
    said = "; ".join(
        f"{picture.deployment.instance_name(one.slot.number)} on {picture.offers[one.slot.host_id].label}: {one.failed}"
        for one in failed[:_NAMED]
    )
    return said + (f"; and {len(failed) - _NAMED} more" if len(failed) > _NAMED else "")


def _window(rollout: Rollout) -> int:
    return rollout.pace.max_unavailable + rollout.pace.max_surge
