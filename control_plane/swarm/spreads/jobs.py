"""Periodic work of spreads: forget what is old."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob
from control_plane.swarm.spreads.service import SpreadService

SWEEP_KIND = "swarm.forget_spreads"
_KEPT = timedelta(days=30)

SCHEDULES = (Schedule(SWEEP_KIND, SWEEP_KIND, timedelta(days=1)),)


def build_handlers(spreads: SpreadService) -> Mapping[str, Handler]:
    async def sweep(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"forgotten": await spreads.forget(_KEPT)}

    return {SWEEP_KIND: sweep}
