"""An instance that came from another host: which container is it, and how far is it; pure.

Invariant: only the container that bears the move's own mark is the instance. What else has its name was made of the
image or left by an earlier move, and what the instance wrote is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.health import verdict
from agent.model import LIVE_STATES, Assignment, Container, DesiredState, Health, Phase, TakeOver
from agent.observation import Observation
from agent.steps import Step, TakeOverInstance

GONE = "the copy of the instance is gone from this host"


def copy_among(mine: Sequence[Container], take_over: TakeOver) -> Container | None:
    return next((one for one in mine if one.move == take_over.move_id), None)


def same_move(assignment: Assignment | None, before: Assignment) -> bool:
    """Whether what was begun for `before` is still what is wanted."""
    held = assignment is not None and assignment.desired_state is DesiredState.HELD
    now, then = assignment.take_over if assignment and held else None, before.take_over
    return now is not None and then is not None and now.move_id == then.move_id


def condition_of_copy(
    assignment: Assignment, copy: Container | None, observation: Observation, doing: Step | None, failure: str
) -> tuple[Phase, Health, str]:
    """Failed means that trying again leads nowhere; what may pass is told beside `pending`."""
    if observation.containers is None:
        return Phase.PENDING, Health.UNKNOWN, observation.engine_detail or "the container engine does not answer"
    wanted = assignment.desired_state in (DesiredState.RUNNING, DesiredState.PAUSED)
    if copy is None and assignment.desired_state is not DesiredState.HELD:
        return Phase.FAILED, Health.UNKNOWN, GONE
    if copy is None:
        refused = observation.refused.get(assignment.instance_id) == assignment.spec_hash
        if isinstance(doing, TakeOverInstance):
            return Phase.FETCHING, Health.UNKNOWN, ""
        return (Phase.FAILED if refused and failure else Phase.PENDING), Health.UNKNOWN, failure
    if copy.name != assignment.container_name:
        return (Phase.FAILED if failure else Phase.CREATING), Health.UNKNOWN, failure
    if not wanted and copy.state in LIVE_STATES:
        return Phase.PENDING, Health.UNKNOWN, failure
    found = verdict(copy, wanted=wanted)
    troubled = bool(failure) and found.phase is Phase.CREATING
    return Phase.FAILED if troubled else found.phase, found.health, found.detail or failure
