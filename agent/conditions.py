"""(assignment, observation, what is being done, what went wrong) -> what to report of an instance; pure."""

from __future__ import annotations

from collections.abc import Sequence

from agent.adoption import offered
from agent.copies import condition_of_copy, copy_among
from agent.health import verdict
from agent.model import (
    LIVE_STATES,
    Assignment,
    Container,
    DesiredState,
    Effort,
    Health,
    InstanceReport,
    Phase,
)
from agent.observation import Observation
from agent.steps import FetchContents, Step

_RUNS = (DesiredState.RUNNING, DesiredState.PAUSED)
NO_ENGINE = "the content is held; this host has no container engine to run it"
STANDS_STILL = "it stands still outside its window; what is there stays"
NOT_UNDERSTOOD = "this agent does not know the desired state; update the agent"


def report_of(assignment: Assignment, observation: Observation, doing: Step | None, failure: str) -> InstanceReport:
    """`failure`: why the last step failed, empty once a step of the instance has succeeded again."""
    mine = [one for one in observation.containers or () if one.instance_id == assignment.instance_id]
    shown = _shown(assignment, mine)
    if assignment.take_over is not None and assignment.desired_state is not DesiredState.REMOVED:
        shown = copy_among(mine, assignment.take_over)
        phase, health, detail = condition_of_copy(assignment, shown, observation, doing, failure)
    else:
        phase, health, detail = _condition(assignment, observation, mine, shown, doing, failure)
    return InstanceReport(
        instance_id=assignment.instance_id,
        generation=assignment.generation,
        phase=phase,
        health=health,
        detail=detail[:2000],
        runtime_id=shown.runtime_id if shown else "",
        restart_count=shown.restart_count if shown else 0,
    )


def _shown(assignment: Assignment, mine: Sequence[Container]) -> Container | None:
    """The container that speaks for the instance: of the wished spec, else a live one."""
    ranked = sorted(mine, key=lambda one: (one.spec_hash != assignment.spec_hash, one.state not in LIVE_STATES))
    return ranked[0] if ranked else None


def _condition(
    assignment: Assignment,
    observation: Observation,
    mine: Sequence[Container],
    shown: Container | None,
    doing: Step | None,
    failure: str,
) -> tuple[Phase, Health, str]:
    wished = shown if shown and shown.spec_hash == assignment.spec_hash else None
    match assignment.desired_state:
        case DesiredState.UNKNOWN:
            return Phase.FAILED, Health.UNKNOWN, NOT_UNDERSTOOD
        case DesiredState.REMOVED if observation.containers is not None and not mine:
            return Phase.REMOVED, Health.UNKNOWN, ""
        case DesiredState.RUNNING | DesiredState.PAUSED | DesiredState.STOPPED if wished is not None:
            found = verdict(wished, wanted=assignment.desired_state is not DesiredState.STOPPED)
            troubled = bool(failure) and found.phase is Phase.CREATING
            return Phase.FAILED if troubled else found.phase, found.health, found.detail or failure
    offer = offered(assignment, observation) if not mine and assignment.desired_state in _RUNS else None
    if offer is not None and offer.obstacle:
        return Phase.FAILED, Health.UNKNOWN, offer.obstacle
    content = _of_content(assignment, observation, doing, failure)
    if content is not None:
        return content[0], Health.UNKNOWN, content[1]
    return _of_engine(assignment, observation, shown, failure)


def _of_content(
    assignment: Assignment, observation: Observation, doing: Step | None, failure: str
) -> tuple[Phase, str] | None:
    """None once everything is held and the rest is the engine's business."""
    if assignment.desired_state is DesiredState.REMOVED:
        return None
    missing = any(content.digest not in observation.held for content in assignment.image.everything)
    if missing and failure:
        return Phase.FAILED, failure
    if missing and assignment.effort is Effort.PAUSED:
        return Phase.PENDING, STANDS_STILL
    if missing:
        return (Phase.FETCHING if isinstance(doing, FetchContents) else Phase.PENDING), ""
    if assignment.desired_state is DesiredState.HELD:
        return Phase.VERIFIED, failure
    if not observation.has_engine:
        return Phase.VERIFIED, NO_ENGINE
    return None


def _of_engine(
    assignment: Assignment, observation: Observation, shown: Container | None, failure: str
) -> tuple[Phase, Health, str]:
    if observation.containers is None:
        detail = observation.engine_detail or "the container engine does not answer"
        return Phase.FAILED, Health.UNKNOWN, f"{detail}; what runs is left alone and looked at again soon"
    if failure:
        kept = "; the previous version runs" if shown and shown.state in LIVE_STATES else ""
        return Phase.FAILED, Health.UNKNOWN, f"{failure}{kept}"
    if assignment.desired_state is DesiredState.STOPPED:
        return Phase.STOPPED, Health.UNKNOWN, ""
    return (Phase.PENDING if assignment.desired_state is DesiredState.REMOVED else Phase.CREATING), Health.UNKNOWN, ""
