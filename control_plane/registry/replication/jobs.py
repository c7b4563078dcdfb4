"""Periodic work of replication: starting runs whose time has come, and forgetting those that ended long ago."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob
from control_plane.registry.replication.executions import ExecutionService

START_KIND = "replication.start_due"
FORGET_KIND = "replication.forget"

SCHEDULES = (
    Schedule(START_KIND, START_KIND, timedelta(minutes=1)),
    Schedule(FORGET_KIND, FORGET_KIND, timedelta(hours=6)),
)


def build_handlers(executions: ExecutionService, keep: timedelta) -> Mapping[str, Handler]:
    async def start_due(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"started": await executions.start_due()}

    async def forget(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"forgotten": await executions.forget(keep)}

    return {START_KIND: start_due, FORGET_KIND: forget}
