"""The jobs' own periodic work: forgetting those that ended long ago."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from common.clock import Clock
from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob
from control_plane.jobs.service import JobService

FORGET_KIND = "jobs.forget_ended"
_KEPT = timedelta(days=7)

SCHEDULES = (Schedule(FORGET_KIND, FORGET_KIND, timedelta(days=1)),)


def build_handlers(jobs: JobService, clock: Clock) -> Mapping[str, Handler]:
    async def forget_ended(job: RunningJob) -> Mapping[str, Any] | None:
        return {"forgotten": await jobs.forget_ended(clock.now() - _KEPT)}

    return {FORGET_KIND: forget_ended}
