"""Periodic work of retention: begin the runs that are due, carry them out, forget what is old."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob
from control_plane.registry.retention.runner import RetentionRunner
from control_plane.registry.retention.service import RUN_ATTEMPTS, RUN_KIND, RetentionService

DUE_KIND = "registry.retention_due"
SWEEP_KIND = "registry.retention_sweep"
_RUNS_KEPT = timedelta(days=90)

SCHEDULES = (
    Schedule(DUE_KIND, DUE_KIND, timedelta(minutes=1)),
    Schedule(SWEEP_KIND, SWEEP_KIND, timedelta(days=1)),
)


def build_handlers(service: RetentionService, runner: RetentionRunner) -> Mapping[str, Handler]:
    async def begin_due(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"begun": await service.start_due()}

    async def sweep(_job: RunningJob) -> Mapping[str, Any] | None:
        runs, pulls = await service.sweep(_RUNS_KEPT)
        return {"runs": runs, "pulls": pulls}

    async def run(job: RunningJob) -> Mapping[str, Any] | None:
        tenant_id, run_id = str(job.payload["tenant_id"]), str(job.payload["run_id"])
        try:
            ended = await runner.run(tenant_id, run_id, job.report)
        except Exception as error:
            if job.attempt >= RUN_ATTEMPTS:
                await runner.give_up(tenant_id, run_id, str(error))
            raise
        return None if ended is None else {"deleted": ended.deleted, "kept": ended.kept, "skipped": ended.skipped}

    return {DUE_KIND: begin_due, SWEEP_KIND: sweep, RUN_KIND: run}
