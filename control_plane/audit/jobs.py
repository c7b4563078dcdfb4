"""Periodic work of the audit trail: the daily anchor, and the rest of what was pruned."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from control_plane.audit.retention import Retention
from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob

ANCHOR_KIND = "audit.anchor"
DROP_KIND = "audit.drop_pruned"

SCHEDULES = (
    Schedule(ANCHOR_KIND, ANCHOR_KIND, timedelta(days=1)),
    Schedule(DROP_KIND, DROP_KIND, timedelta(hours=1)),
)


def build_handlers(retention: Retention) -> Mapping[str, Handler]:
    async def anchor(_job: RunningJob) -> Mapping[str, Any] | None:
        made = await retention.anchor()
        return {"sequence": made.link.sequence if made is not None else None}

    async def drop_pruned(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"rows": await retention.drop_pruned()}

    return {ANCHOR_KIND: anchor, DROP_KIND: drop_pruned}
