"""Periodic work of preheats: windows open and close, hosts come and go, what is over is forgotten in time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob
from control_plane.preheats.service import PreheatService

CARRY_ON_KIND = "preheats.carry_on"
SWEEP_KIND = "preheats.sweep"
_ENDED_KEPT = timedelta(days=30)

SCHEDULES = (
    # Windows are of minutes.
    Schedule(CARRY_ON_KIND, CARRY_ON_KIND, timedelta(seconds=30)),
    Schedule(SWEEP_KIND, SWEEP_KIND, timedelta(days=1)),
)


def build_handlers(service: PreheatService) -> Mapping[str, Handler]:
    async def carry_on(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"changed": await service.carry_on()}

    async def sweep(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"forgotten": await service.forget_ended(_ENDED_KEPT)}

    return {CARRY_ON_KIND: carry_on, SWEEP_KIND: sweep}
