"""(assignments, observation) -> the next step of each instance; pure.

Invariants: only containers in the observation (ours by label or by adoption) are touched; nothing is removed for being
absent from a set that was never received; while a spec changes, the old container runs until the new image is in the
engine, at most one container of an instance runs at any time, and if the new one is refused or does not stay up, the
old one returns.

While contents are missing, the engine may already take in what has come (`PullAhead`), and nothing else: a container is
made only when every content was verified on this host, whatever the engine holds.

One step at a time on purpose: the world may change after each, so the reconciler looks again and trusts no list.
The order of a change of spec is pull, stop, put aside, create, start, remove (fleet facts, "Recreate"); the state
between any two of these is found again from labels and names alone, so a crash between them loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.adoption import Offer, offered
from agent.copies import copy_among
from agent.model import (
    LIVE_STATES,
    Assignment,
    Assignments,
    Container,
    ContainerState,
    DesiredState,
    Effort,
    TakeOver,
)
from agent.observation import Observation
from agent.steps import (
    AdoptContainer,
    CreateContainer,
    FetchContents,
    PauseContainer,
    PullAhead,
    PullImage,
    RemoveContainer,
    RenameContainer,
    RestartContainer,
    ResumeContainer,
    StartContainer,
    Step,
    StopContainer,
    TakeOverInstance,
)

_FAILED_STATES = frozenset({ContainerState.EXITED, ContainerState.DEAD, ContainerState.RESTARTING})


def plan(assignments: Assignments, observation: Observation) -> dict[str, Step]:
    """At most one step an instance; an instance that needs none, or can only wait, is absent."""
    steps = {
        instance_id: step
        for instance_id, assignment in assignments.items.items()
        if (step := next_step(assignment, observation)) is not None
    }
    if assignments.known:
        for instance_id in orphans(assignments, observation):
            if (step := _towards_nothing(_of(instance_id, observation))) is not None:
                steps[instance_id] = step
    return steps


def orphans(assignments: Assignments, observation: Observation) -> list[str]:
    """Instances that have containers of ours here and are not assigned any more."""
    found = {container.instance_id for container in observation.containers or ()}
    return sorted(found - assignments.items.keys() - assignments.unreadable.keys())


def next_step(assignment: Assignment, observation: Observation) -> Step | None:
    mine = _of(assignment.instance_id, observation)
    if assignment.take_over is not None and assignment.desired_state is not DesiredState.REMOVED:
        return _towards_copy(assignment, assignment.take_over, observation, mine)
    match assignment.desired_state:
        case DesiredState.RUNNING | DesiredState.PAUSED:
            return _towards_running(assignment, observation, mine)
        case DesiredState.STOPPED:
            return _towards_stopped(assignment, mine) or _fetch(assignment, observation)
        case DesiredState.HELD:
            return _towards_nothing(mine) or _fetch(assignment, observation)
        case DesiredState.REMOVED:
            return _towards_nothing(mine)
        case DesiredState.UNKNOWN:
            return None


def _of(instance_id: str, observation: Observation) -> list[Container]:
    return [container for container in observation.containers or () if container.instance_id == instance_id]


def _split(assignment: Assignment, mine: Sequence[Container]) -> tuple[list[Container], list[Container]]:
    """(of the wished spec, others); live ones first, so that the first of each is the one to keep."""
    ordered = sorted(mine, key=lambda container: (container.state not in LIVE_STATES, container.runtime_id))
    wished = [container for container in ordered if container.spec_hash == assignment.spec_hash]
    return wished, [container for container in ordered if container.spec_hash != assignment.spec_hash]


def _fetch(assignment: Assignment, observation: Observation) -> FetchContents | None:
    if assignment.effort is Effort.PAUSED:
        return None
    missing = tuple(content for content in assignment.image.everything if content.digest not in observation.held)
    return FetchContents(assignment.tenant_id, missing) if missing else None


def _towards_nothing(mine: Sequence[Container]) -> Step | None:
    # With the grace of its making: the assignment may be gone, and with it what it would wish now.
    return _take_away(mine[0], mine[0].stop_grace_seconds) if mine else None


def _take_away(container: Container, grace_seconds: int) -> Step:
    if container.state in LIVE_STATES:
        return StopContainer(container.runtime_id, grace_seconds)
    return RemoveContainer(container.runtime_id)


def _towards_stopped(assignment: Assignment, mine: Sequence[Container]) -> Step | None:
    grace = assignment.container.stop_grace_seconds
    for container in mine:
        if container.state in LIVE_STATES:
            return StopContainer(container.runtime_id, grace)
    wished, others = _split(assignment, mine)
    # A half-done change of spec is finished here: a later start must find one container, not a choice.
    surplus = [*wished[1:], *others] if wished else others[1:]
    return RemoveContainer(surplus[0].runtime_id) if surplus else None


def _towards_running(assignment: Assignment, observation: Observation, mine: Sequence[Container]) -> Step | None:
    if not mine and (offer := offered(assignment, observation)) is not None:
        return _adopt(assignment, observation, offer)
    wished, others = _split(assignment, mine)
    if wished[1:]:
        return _take_away(wished[1], assignment.container.stop_grace_seconds)
    if not wished:
        return _replace(assignment, observation, others)
    step = _succeed(assignment, observation, wished[0], others) if others else _keep(assignment, observation, wished[0])
    return step or _fetch(assignment, observation)


def _replace(assignment: Assignment, observation: Observation, others: Sequence[Container]) -> Step | None:
    """There is no container of the wished spec."""
    if observation.refused.get(assignment.instance_id) == assignment.spec_hash:
        return _bring_back(assignment, others) or _fetch(assignment, observation)
    step = _prepare(assignment, observation)
    if step is not None or observation.containers is None or not observation.has_engine:
        return step
    for other in others:
        if other.state in LIVE_STATES:
            return StopContainer(other.runtime_id, assignment.container.stop_grace_seconds)
    for other in others:
        if other.name == assignment.container_name:
            return RenameContainer(other.runtime_id, aside_name(assignment, other))
    adopted = next((other for other in others if other.adopted), None)
    return CreateContainer(assignment, adopted.runtime_id if adopted else "")


def _adopt(assignment: Assignment, observation: Observation, offer: Offer) -> Step | None:
    """What does not fit is adopted once its replacement could be made at once, and only if that is wished."""
    if offer.stranger is not None and not offer.differences:
        return AdoptContainer(offer.stranger.runtime_id, assignment.generation, assignment.spec_hash)
    step = _prepare(assignment, observation)
    if step is not None or offer.stranger is None or not offer.replace:
        return step
    return AdoptContainer(offer.stranger.runtime_id, assignment.generation, "")


def _prepare(assignment: Assignment, observation: Observation) -> Step | None:
    fetch, image = _fetch(assignment, observation), assignment.image
    answers = observation.has_engine and observation.containers is not None
    if not answers or image.manifest.digest in observation.images:
        return fetch
    if fetch is None:
        return PullImage(image.repository, image.manifest.digest)
    first = (image.manifest, *image.contents[:1])
    return replace(fetch, ahead=PullAhead(image.repository, image.manifest.digest, first))


def _bring_back(assignment: Assignment, others: Sequence[Container]) -> Step | None:
    """The wished spec is refused for now: let the best of the others run, and only that."""
    live = [other for other in others if other.state in LIVE_STATES]
    if live[1:]:
        return StopContainer(live[1].runtime_id, assignment.container.stop_grace_seconds)
    usable = [other for other in others if other.state is not ContainerState.DEAD and not other.unfinished]
    if live:
        return _stand_still_or_not(assignment, live[0])
    if not usable:
        return None
    return StartContainer(usable[0].runtime_id, usable[0].spec_hash, assignment.restart_nonce)


def _succeed(
    assignment: Assignment, observation: Observation, wished: Container, others: Sequence[Container]
) -> Step | None:
    """The successor exists and its predecessors still do."""
    refused = observation.refused.get(assignment.instance_id) == assignment.spec_hash
    if wished.unfinished:
        return RemoveContainer(wished.runtime_id)
    if refused or wished.state in _FAILED_STATES or wished.restart_count > 0:
        if wished.state in LIVE_STATES:
            return StopContainer(wished.runtime_id, assignment.container.stop_grace_seconds)
        return RemoveContainer(wished.runtime_id, refused_spec=assignment.spec_hash)
    live = next((other for other in others if other.state in LIVE_STATES), None)
    if live is not None:
        return StopContainer(live.runtime_id, assignment.container.stop_grace_seconds)
    if wished.state is ContainerState.CREATED:
        return StartContainer(wished.runtime_id, wished.spec_hash, assignment.restart_nonce)
    return RemoveContainer(others[0].runtime_id)


def _keep(assignment: Assignment, observation: Observation, wished: Container) -> Step | None:
    """The one container of this instance, of the wished spec: make it run."""
    if wished.state is ContainerState.DEAD or wished.unfinished:
        return RemoveContainer(wished.runtime_id)
    if wished.state not in LIVE_STATES:
        if observation.refused.get(assignment.instance_id) == assignment.spec_hash:
            return None
        return StartContainer(wished.runtime_id, wished.spec_hash, assignment.restart_nonce)
    honoured = observation.restarts.get(assignment.instance_id, assignment.restart_nonce)
    if honoured != assignment.restart_nonce:
        return RestartContainer(wished.runtime_id, assignment.container.stop_grace_seconds, assignment.restart_nonce)
    return _stand_still_or_not(assignment, wished)


def _stand_still_or_not(assignment: Assignment, wished: Container) -> Step | None:
    match assignment.desired_state, wished.state:
        case DesiredState.PAUSED, ContainerState.RUNNING:
            return PauseContainer(wished.runtime_id)
        case DesiredState.RUNNING, ContainerState.PAUSED:
            return ResumeContainer(wished.runtime_id)
    return None


def _towards_copy(
    assignment: Assignment, take_over: TakeOver, observation: Observation, mine: Sequence[Container]
) -> Step | None:
    """Only the copy of this very move is the instance: what it wrote elsewhere must not be lost to a new beginning."""
    copy = copy_among(mine, take_over)
    if assignment.desired_state is DesiredState.HELD and (others := [one for one in mine if one is not copy]):
        return _take_away(others[0], others[0].stop_grace_seconds)
    if copy is None:
        refused = observation.refused.get(assignment.instance_id) == assignment.spec_hash
        possible = observation.has_engine and observation.containers is not None and not refused
        wanted = assignment.desired_state is DesiredState.HELD and take_over.addresses
        return TakeOverInstance(assignment) if wanted and possible else None
    if copy.name != assignment.container_name:
        return RenameContainer(copy.runtime_id, assignment.container_name)
    if assignment.desired_state in (DesiredState.RUNNING, DesiredState.PAUSED):
        return _keep(assignment, observation, copy)
    live = copy.state in LIVE_STATES and assignment.desired_state is not DesiredState.UNKNOWN
    return StopContainer(copy.runtime_id, assignment.container.stop_grace_seconds) if live else None


def aside_name(assignment: Assignment, container: Container) -> str:
    """Unique for each container put aside, so that several leftovers of crashes never stand in each other's way. By the
    tail of the engine's id: engines that count up have equal heads.
    """
    return f"{assignment.container_name}.old-{container.runtime_id[-12:]}"
