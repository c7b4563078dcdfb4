"""What a host may not run while nobody reaches it; pure.

Some instances get another place when their host is lost, and must never run twice. The control plane cannot tell a dead
host from one behind a cut line, so the host itself keeps the promise: after the time that its assignment names it stops
such an instance, and after a start of the agent it starts none before it has heard what is wanted now. Time is this
host's monotonic clock; nobody's wall clock is compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.model import LIVE_STATES, Assignments, DesiredState
from agent.observation import Observation


@dataclass(frozen=True, slots=True)
class CutOff:
    """`seconds`: since the stream to the control plane ended, or this process began; 0 while there is one. `heard`:
    whether this process was ever told what is wanted.
    """

    seconds: float = 0.0
    heard: bool = True


CONNECTED = CutOff()


def held_back(assignments: Assignments, observation: Observation, cut_off: CutOff) -> Assignments:
    """The assignments, with those wanted stopped that may not run now."""
    if cut_off.heard and not cut_off.seconds:
        return assignments
    live = {one.instance_id for one in observation.containers or () if one.state in LIVE_STATES}
    items = {
        instance_id: replace(one, desired_state=DesiredState.STOPPED)
        if one.desired_state in (DesiredState.RUNNING, DesiredState.PAUSED)
        and one.stop_when_cut_off_seconds
        and (cut_off.seconds >= one.stop_when_cut_off_seconds or (not cut_off.heard and instance_id not in live))
        else one
        for instance_id, one in assignments.items.items()
    }
    return replace(assignments, items=items)
