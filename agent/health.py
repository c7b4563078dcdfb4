"""Is a container well? Its state and its health check become one verdict for people and planners; pure."""

from __future__ import annotations

from dataclasses import dataclass

from agent.model import Container, ContainerState, Health, Phase


@dataclass(frozen=True, slots=True)
class Verdict:
    phase: Phase
    health: Health
    detail: str = ""


def verdict(container: Container, *, wanted: bool) -> Verdict:
    """`wanted`: whether it is meant to run."""
    match container.state:
        case ContainerState.RUNNING:
            return Verdict(Phase.RUNNING, container.health, _unhealthy(container))
        case ContainerState.PAUSED:
            return Verdict(Phase.PAUSED, container.health)
        case ContainerState.CREATED:
            return Verdict(Phase.CREATING if wanted else Phase.STOPPED, Health.UNKNOWN)
        case ContainerState.EXITED if not wanted:
            return Verdict(Phase.STOPPED, Health.UNKNOWN)
        case ContainerState.DEAD:
            return Verdict(
                Phase.FAILED, Health.UNKNOWN, container.detail or "the engine could not remove the container"
            )
        case _:
            return Verdict(Phase.FAILED, Health.UNKNOWN, _exited(container))


def _unhealthy(container: Container) -> str:
    if container.health is Health.UNKNOWN:
        return container.detail  # why nobody knows
    if container.health is not Health.UNHEALTHY:
        return ""
    return f"the health check fails: {container.detail}" if container.detail else "the health check fails"


def _exited(container: Container) -> str:
    times = f" after {container.restart_count} restarts" if container.restart_count else ""
    reason = f": {container.detail}" if container.detail else ""
    return f"the container exited with code {container.exit_code}{times}{reason}; look at its logs"
