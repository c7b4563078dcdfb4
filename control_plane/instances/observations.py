"""What a host's report does to what is known of an instance; pure.

Invariant: the observed generation never falls, and a report of a generation that was never given out is not believed
(the centre may have been restored from a backup; the agent has received the full set since and reports again).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from control_plane.instances.model import DesiredState, Health, Phase, Status, Wish


@dataclass(frozen=True, slots=True)
class Observation:
    """One report of a host, in our words."""

    instance_id: str
    generation: int
    phase: Phase
    health: Health
    detail: str = ""
    runtime_id: str = ""
    restart_count: int = 0


class Effect(Enum):
    NOTHING = auto()  # older than what is known, the same, or of an unknown generation
    CHANGED = auto()  # `Status` is to be written
    GONE = auto()  # nothing is left on the host and nothing is wanted: the instance can be forgotten


def effect_of(observation: Observation, wish: Wish, known: Status) -> Effect:
    # Generations begin at 1; 0 would be a report of nothing.
    if not max(known.observed_generation, 1) <= observation.generation <= wish.generation:
        return Effect.NOTHING
    removal_answered = wish.desired_state is DesiredState.REMOVED and observation.generation == wish.generation
    if removal_answered and observation.phase is Phase.REMOVED:
        return Effect.GONE
    if status_after(observation, known.reported_at) == known:
        return Effect.NOTHING
    return Effect.CHANGED


def status_after(observation: Observation, reported_at: datetime | None) -> Status:
    return Status(
        observed_generation=observation.generation,
        phase=observation.phase,
        health=observation.health,
        detail=observation.detail,
        runtime_id=observation.runtime_id,
        restart_count=observation.restart_count,
        reported_at=reported_at,
    )
