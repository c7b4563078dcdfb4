"""Periodic work of moves: forgetting outcomes in time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob
from control_plane.moves.service import MoveService

SWEEP_KIND = "moves.sweep"
_KEPT = timedelta(days=30)

SCHEDULES = (Schedule(SWEEP_KIND, SWEEP_KIND, timedelta(hours=1)),)


def build_handlers(service: MoveService) -> Mapping[str, Handler]:
    async def sweep(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"forgotten": await service.forget(_KEPT)}

    return {SWEEP_KIND: sweep}
