"""How what is wanted of an instance changes; pure.

Invariant: each change raises the generation by exactly one, and asking for what is wanted already changes nothing, so
that every verb may be repeated. An instance that is being removed takes no other wish: its host may have removed it
already.
"""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime

from common.errors import Conflict
from control_plane.instances.model import DesiredState, Instance, InstanceImage, InstanceSpec


class InstanceBeingRemoved(Conflict):
    code = "instance_being_removed"


class InstanceDiffers(Conflict):
    """The name is taken on that host by an instance of another specification; `facts["field"]` says where they
    differ."""

    code = "instance_differs"


def started(instance: Instance, now: datetime) -> Instance:
    return towards(instance, DesiredState.RUNNING, now)


def paused(instance: Instance, now: datetime) -> Instance:
    return towards(instance, DesiredState.PAUSED, now)


def resumed(instance: Instance, now: datetime) -> Instance:
    """One that is not wanted paused stays as it is."""
    return started(instance, now) if instance.desired_state is DesiredState.PAUSED else instance


def stopped(instance: Instance, now: datetime) -> Instance:
    """A held instance stays held: nothing of it runs."""
    if instance.desired_state is DesiredState.HELD:
        return instance
    return towards(instance, DesiredState.STOPPED, now)


def restarted(instance: Instance, now: datetime) -> Instance:
    """One restart for each call, also of a paused instance, which then runs; one that is wanted otherwise is started
    instead.
    """
    if instance.desired_state not in (DesiredState.RUNNING, DesiredState.PAUSED):
        return started(instance, now)
    return replace(
        instance,
        desired_state=DesiredState.RUNNING,
        restart_nonce=instance.restart_nonce + 1,
        generation=instance.generation + 1,
        updated_at=now,
    )


def removed(instance: Instance, now: datetime) -> Instance:
    if instance.desired_state is DesiredState.REMOVED:
        return instance
    return replace(instance, desired_state=DesiredState.REMOVED, generation=instance.generation + 1, updated_at=now)


def revised(instance: Instance, image: InstanceImage, spec: InstanceSpec, now: datetime) -> Instance:
    """It shall run another image or with another specification, where it is. Raises `InstanceBeingRemoved`."""
    towards(instance, instance.desired_state, now)
    if (instance.image, instance.spec) == (image, spec):
        return instance
    return replace(instance, image=image, spec=spec, generation=instance.generation + 1, updated_at=now)


def asked_again(
    instance: Instance, image: InstanceImage, spec: InstanceSpec, desired_state: DesiredState, now: datetime
) -> Instance:
    """The same instance was asked for once more. Raises `InstanceBeingRemoved`, `InstanceDiffers`."""
    field = _difference(instance, image, spec)
    if field is not None and instance.desired_state is not DesiredState.REMOVED:
        raise InstanceDiffers(
            f"{instance.name} runs on that host already with another {field}",
            action="choose another name, or remove that instance first",
            field=field,
            instance_id=instance.id,
            host_id=instance.host_id,
        )
    return towards(instance, desired_state, now)


def towards(instance: Instance, desired_state: DesiredState, now: datetime) -> Instance:
    if instance.desired_state is DesiredState.REMOVED:
        raise InstanceBeingRemoved(
            f"{instance.name} is being removed from its host",
            action="wait until it is gone, or drop it with force",
            instance_id=instance.id,
            host_id=instance.host_id,
        )
    if instance.desired_state is desired_state:
        return instance
    return replace(instance, desired_state=desired_state, generation=instance.generation + 1, updated_at=now)


def _difference(instance: Instance, image: InstanceImage, spec: InstanceSpec) -> str | None:
    if instance.image.reference != image.reference:
        return "image"
    if instance.image.manifest.digest != image.manifest.digest:
        return "digest"  # the tag has moved since
    for field in fields(InstanceSpec):
        if getattr(instance.spec, field.name) != getattr(spec, field.name):
            return field.name
    return None
