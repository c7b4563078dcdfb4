"""Whether an instance may move to a host; pure.

A reason is one word for programs and a sentence for people. None is found where the move may begin.
"""

from __future__ import annotations

from control_plane.fleet.placement.fitting import lacking
from control_plane.fleet.placement.model import Offer, Resources, Standing
from control_plane.instances.mobility import Reason
from control_plane.instances.model import Instance

_ENGINES = frozenset({"lxd", "memory"})


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
