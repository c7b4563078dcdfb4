"""Which instances may go to another host with all that they wrote; pure.

A reason is one word for programs and a sentence for people. None is found where nothing stands against it.
"""

from __future__ import annotations

from common.lxd_image import CONFIG
from control_plane.instances.model import DesiredState, Instance, InstanceImage

Reason = tuple[str, str]
# The label by which an instance stays on a host that is drained.
STAY = ("longshore-drain", "stay")


def is_of_lxd(image: InstanceImage) -> bool:
    return bool(image.contents) and image.contents[0].media_type == CONFIG


def unmovable(instance: Instance) -> Reason | None:
    """Why it moves nowhere."""
    if not is_of_lxd(instance.image):
        return "engine", "only instances of LXD move; what runs in Docker is run anew from its image"
    if any(mount.host_path for mount in instance.spec.mounts):
        return "directories", "it uses directories of its host, which do not move with it"
    if instance.spec.mounts:
        return "volumes", "it has volumes, which do not move with it"
    if instance.desired_state is DesiredState.REMOVED:
        return "removing", "it is being removed"
    if instance.desired_state is DesiredState.HELD:
        return "held", "nothing of it runs; only its contents are held"
    if instance.desired_state is DesiredState.PAUSED:
        return "paused", "it is paused, and its memory does not move with it; resume or stop it first"
    return None


def stays_when_drained(instance: Instance) -> Reason | None:
    """Why it stays on a host that is drained, though it is no deployment's."""
    if instance.spec.labels.get(STAY[0]) == STAY[1]:
        return "label", f"its label {STAY[0]} says so"
    return unmovable(instance)
