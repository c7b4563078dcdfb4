"""What to do next for one deployment; pure.

A slot moves in three steps, of which each is a row before it is anything else: its successor is made on the new host
and only holds the contents; when they are there and enough others run, the present instance is removed; when its host
said that nothing is left, the successor runs. So no two of one slot run, a kill of anything at any moment is followed
by the same steps, and the gap is a start, not a download. Only a host that is lost (away for longer than the deployment
allows) is not waited for: what it may still run is removed as soon as it is back, before anything else happens there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from control_plane.deployments.model import Deployment, Slot
from control_plane.fleet.placement.model import Explanation, Offer, Standing
from control_plane.fleet.placement.planner import plan
from control_plane.instances.model import DesiredState, Health, Instance, Phase, Status

_READY = (Phase.VERIFIED, Phase.CREATING, Phase.RUNNING, Phase.STOPPED)


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that counts for one look. `instances`: those of the slots that still exist, by id. `watched_since`:
    since when we would have seen a host come back; before that nobody is called lost.
    """

    deployment: Deployment
    slots: Mapping[int, Slot]
    instances: Mapping[str, tuple[Instance, Status]]
    offers: Mapping[str, Offer]
    max_unavailable: Mapping[str, int]
    now: datetime
    watched_since: datetime


@dataclass
class Course:
    """What to do. `create`: (slot number, host id, whether as the successor). `remove`, `run`: instance ids. `slots`:
    as they are afterwards, without those that are given up.
    """

    slots: dict[int, Slot]
    create: list[tuple[int, str, bool]] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    run: list[str] = field(default_factory=list)
    unplaced: int = 0
    why: Explanation = field(default_factory=Explanation)

    @property
    def waiting(self) -> bool:
        """Whether something that was begun is not at its end."""
        return bool(self.create) or any(slot.successor_id for slot in self.slots.values())


def next_course(picture: Picture) -> Course:
    course = Course(dict(picture.slots))
    for number, slot in picture.slots.items():
        _settle(picture, course, number, slot)
    if picture.deployment.removing:
        _remove_all(picture, course)
        return course
    _place(picture, course)
    _hand_over(picture, course)
    return course


def _settle(picture: Picture, course: Course, number: int, slot: Slot) -> None:
    """What happened since the last look."""
    if slot.successor_id and slot.successor_id not in picture.instances:
        slot = replace(slot, successor_id="", successor_host_id="")
    present = picture.instances.get(slot.instance_id)
    given_up = _lost(picture, slot.host_id)
    if present is not None and not given_up:
        course.slots[number] = slot
        return
    if present is not None and present[0].desired_state is not DesiredState.REMOVED:
        course.remove.append(slot.instance_id)
    if slot.successor_id and not _lost(picture, slot.successor_host_id):
        course.run.append(slot.successor_id)
        course.slots[number] = Slot(number, slot.successor_id, slot.successor_host_id)
        return
    if slot.successor_id:
        course.remove.append(slot.successor_id)
    del course.slots[number]


def _lost(picture: Picture, host_id: str) -> bool:
    """Whether what is on the host may be replaced without a word from it: it was revoked, or is away for too long."""
    deployment = picture.deployment
    if not deployment.movable:
        return False
    offer = picture.offers.get(host_id)
    if offer is None:
        return True
    if not deployment.reschedule_after_seconds or offer.absent_since is None:
        return False
    away = picture.now - max(offer.absent_since, picture.watched_since)
    return away >= timedelta(seconds=deployment.reschedule_after_seconds)


def _remove_all(picture: Picture, course: Course) -> None:
    for number, slot in list(course.slots.items()):
        for instance_id in filter(None, (slot.instance_id, slot.successor_id)):
            found = picture.instances.get(instance_id)
            if found is not None and found[0].desired_state is not DesiredState.REMOVED:
                course.remove.append(instance_id)
        course.slots[number] = replace(slot, successor_id="", successor_host_id="")


def _place(picture: Picture, course: Course) -> None:
    deployment = picture.deployment
    held = {number: slot.successor_host_id or slot.host_id for number, slot in course.slots.items()}
    offers = [
        offer
        if deployment.movable or offer.standing is not Standing.DRAINING
        else replace(offer, standing=Standing.CORDONED)
        for offer in picture.offers.values()
        if offer.architecture in deployment.images
    ]
    made = plan(deployment.rules, deployment.ask, held, offers, deployment.name, movable=deployment.movable)
    course.unplaced, course.why = len(made.unplaced), made.why
    for number in made.surplus:
        slot = course.slots.pop(number)
        for instance_id in filter(None, (slot.instance_id, slot.successor_id)):
            if picture.instances[instance_id][0].desired_state is not DesiredState.REMOVED:
                course.remove.append(instance_id)
    for number, host_id in made.place.items():
        there = course.slots.get(number)
        if there is None:
            course.create.append((number, host_id, False))
            continue
        if there.successor_id:
            # Its new host is no place any more either; what it held there goes.
            course.remove.append(there.successor_id)
            course.slots[number] = replace(there, successor_id="", successor_host_id="")
        course.create.append((number, host_id, True))


def _hand_over(picture: Picture, course: Course) -> None:
    """Remove what has a successor that waits, as many at a time as may be down."""
    away = sum(not _serves(picture, slot) for slot in course.slots.values())
    for slot in (course.slots[number] for number in sorted(course.slots)):
        if not slot.successor_id or slot.successor_id not in picture.instances:
            continue
        instance = picture.instances[slot.instance_id][0]
        if instance.desired_state is DesiredState.REMOVED:
            continue
        serves = _serves(picture, slot)
        ready = picture.instances[slot.successor_id][1].phase in _READY
        allowed = picture.max_unavailable.get(slot.host_id, 1)
        if not serves or (ready and away < allowed):
            course.remove.append(slot.instance_id)
            away += serves


def _serves(picture: Picture, slot: Slot) -> bool:
    """Whether the slot does its work now, as far as is known."""
    found = picture.instances.get(slot.instance_id)
    if found is None:
        return False
    instance, status = found
    offer = picture.offers.get(instance.host_id)
    if instance.desired_state is DesiredState.REMOVED or offer is None or offer.absent_since is not None:
        return False
    if instance.desired_state is not DesiredState.RUNNING:
        return status.phase in _READY
    return status.phase is Phase.RUNNING and status.health is not Health.UNHEALTHY
