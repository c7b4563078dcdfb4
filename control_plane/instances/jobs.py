"""Periodic work of instances: ending removals that their hosts can no longer answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from control_plane.instances.service import InstanceService
from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob

SWEEP_KIND = "instances.sweep"

SCHEDULES = (Schedule(SWEEP_KIND, SWEEP_KIND, timedelta(minutes=1)),)


def build_handlers(service: InstanceService) -> Mapping[str, Handler]:
    async def sweep(job: RunningJob) -> Mapping[str, Any] | None:
        return {"forgotten": await service.sweep()}

    return {SWEEP_KIND: sweep}
