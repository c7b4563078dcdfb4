"""Whether an instance may move to a host; pure.

A reason is one word for programs and a sentence for people. None is found where the move may begin.
"""

from __future__ import annotations

from common.lxd_image import CONFIG
from control_plane.fleet.placement.fitting import lacking
from control_plane.fleet.placement.model import Offer, Resources, Standing
from control_plane.instances.model import DesiredState, Instance, InstanceImage

Reason = tuple[str, str]
_ENGINES = frozenset({"lxd", "memory"})


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


def no_place(instance: Instance, ask: Resources, architecture: str, target: Offer) -> Reason | None:
    """Why it does not go there. `ask`: what it needs; `architecture`: of its present host."""
    if target.host_id == instance.host_id:
        return "same_host", f"it is on {target.label} already"
    if target.standing is not Standing.OPEN:
        return "closed", f"{target.label} is {target.standing.value}"
    if target.absent_since is not None:
        return "away", f"{target.label} is away"
    if not _ENGINES & target.engines:
        return "engine", f"{target.label} has no LXD"
    if target.architecture != architecture:
        return "architecture", f"{target.label} is {target.architecture}, and the instance {architecture}"
    if short := lacking(target, ask):
        return "room", f"{target.label}: {short}"
    return None
