"""Periodic work of commands: giving up what is too old, forgetting outcomes in time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from control_plane.commands.service import CommandService
from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob

SWEEP_KIND = "commands.sweep"

SCHEDULES = (Schedule(SWEEP_KIND, SWEEP_KIND, timedelta(minutes=1)),)


def build_handlers(service: CommandService) -> Mapping[str, Handler]:
    async def sweep(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"changed": await service.sweep()}

    return {SWEEP_KIND: sweep}
