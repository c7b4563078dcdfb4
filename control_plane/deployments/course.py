"""What to do next for one deployment; pure.

A slot moves in three steps, of which each is a row before it is anything else: its successor is made on the new host
and only holds the contents; when they are there and enough others run, the present instance is removed; when its host
said that nothing is left, the successor runs. So no two of one slot run, a kill of anything at any moment is followed
by the same steps, and the gap is a start, not a download. Only a host that is lost (away for longer than the deployment
allows) is not waited for: what it may still run is removed as soon as it is back, before anything else happens there.

What slots run changes in `rolling`. A slot that gets another place takes its revision along; one that is made anew gets
the last that was well everywhere, unless it is there for the rollout.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from control_plane.deployments import rolling
from control_plane.deployments.model import Slot
from control_plane.deployments.picture import READY, Course, Creation, Picture, serves
from control_plane.fleet.placement.model import Standing
from control_plane.fleet.placement.planner import plan
from control_plane.instances.model import DesiredState


def next_course(picture: Picture) -> Course:
    course = Course(dict(picture.slots), picture.deployment.rollout)
    for number, slot in picture.slots.items():
        _settle(picture, course, number, slot)
    if picture.deployment.removing:
        _remove_all(picture, course)
        return course
    rolling.renumber(picture, course)
    _place(picture, course)
    _hand_over(picture, course)
    rolling.roll(picture, course)
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
        course.slots[number] = Slot(number, slot.successor_id, slot.successor_host_id, revision=slot.revision)
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
    architectures = picture.architectures
    offers = [
        offer
        if deployment.movable or offer.standing is not Standing.DRAINING
        else replace(offer, standing=Standing.CORDONED)
        for offer in picture.offers.values()
        if offer.architecture in architectures
    ]
    surge = rolling.surge(picture, course)
    wanted = deployment.rules if not surge else replace(deployment.rules, count=(deployment.rules.count or 0) + surge)
    weak = rolling.weak(picture, course)
    ask, name, movable = picture.ask, deployment.name, deployment.movable
    made = plan(wanted, ask, held, offers, name, movable=movable, weak=weak)
    course.unplaced, course.why = max(0, len(made.unplaced) - surge), made.why
    _give_up(picture, course, made.surplus)
    for number, host_id in made.place.items():
        there = course.slots.get(number)
        if there is None:
            revision = rolling.revision_of_new(picture, course)
            course.create.append(Creation(number, host_id, successor=False, revision=revision))
            continue
        if there.successor_id:
            # Its new host is no place any more either; what it held there goes.
            course.remove.append(there.successor_id)
            course.slots[number] = replace(there, successor_id="", successor_host_id="")
        course.create.append(Creation(number, host_id, successor=True, revision=there.revision))


def _give_up(picture: Picture, course: Course, numbers: Iterable[int]) -> None:
    for number in numbers:
        slot = course.slots.pop(number)
        for instance_id in filter(None, (slot.instance_id, slot.successor_id)):
            if picture.instances[instance_id][0].desired_state is not DesiredState.REMOVED:
                course.remove.append(instance_id)


def _hand_over(picture: Picture, course: Course) -> None:
    """Remove what has a successor that waits, as many at a time as may be down."""
    away = sum(not serves(picture, slot) for slot in course.slots.values())
    for slot in (course.slots[number] for number in sorted(course.slots)):
        if not slot.successor_id or slot.successor_id not in picture.instances:
            continue
        instance = picture.instances[slot.instance_id][0]
        if instance.desired_state is DesiredState.REMOVED:
            continue
        works = serves(picture, slot)
        ready = picture.instances[slot.successor_id][1].phase in READY
        allowed = picture.max_unavailable.get(slot.host_id, 1)
        if not works or (ready and away < allowed):
            course.remove.append(slot.instance_id)
            away += works
