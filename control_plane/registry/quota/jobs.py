"""Periodic work of quota: the daily proof that every account is right, and giving back what dead uploads reserved."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob
from control_plane.registry.quota.recount import Recount

RECALCULATE_KIND = "registry.recalculate_quota"
SWEEP_KIND = "registry.sweep_reservations"

SCHEDULES = (
    Schedule(RECALCULATE_KIND, RECALCULATE_KIND, timedelta(days=1)),
    Schedule(SWEEP_KIND, SWEEP_KIND, timedelta(hours=1)),
)


def build_handlers(recount: Recount) -> Mapping[str, Handler]:
    async def recalculate(_job: RunningJob) -> Mapping[str, Any] | None:
        drifts = await recount.recalculate_all()
        wrong = [drift for drift in drifts if drift.any]
        return {
            "accounts": len(drifts),
            "wrong": len(wrong),
            "drift_bytes": sum(abs(drift.used_bytes) for drift in wrong),
        }

    async def sweep(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"swept": await recount.sweep()}

    return {RECALCULATE_KIND: recalculate, SWEEP_KIND: sweep}
