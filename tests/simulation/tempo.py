"""How fast the simulated world turns; large fleets look at things more rarely, so that a run stays affordable."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SimulatedTempo:
    """Seconds of simulated time."""

    heartbeat_seconds: float = 10.0
    agent_poll_seconds: float = 5.0
    progress_seconds: float = 2.0
    plane_poll_seconds: float = 30.0
    engine_seconds: float = 0.3
    fetch_seconds: float = 5.0
    flush_seconds: float = 2.0


LARGE = SimulatedTempo(heartbeat_seconds=60.0, agent_poll_seconds=90.0, progress_seconds=120.0, flush_seconds=30.0)
