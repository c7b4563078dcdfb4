"""Periodic work of bare metal: what nothing is heard of is presumed failed, and what nobody asks for is forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob
from control_plane.machines.power.orders import PowerOrders
from control_plane.machines.receiving import Receiving
from control_plane.machines.tasks import TaskService

SILENCE_KIND = "machines.silence"
FORGET_KIND = "machines.forget"

SCHEDULES = (
    Schedule(SILENCE_KIND, SILENCE_KIND, timedelta(minutes=1)),
    Schedule(FORGET_KIND, FORGET_KIND, timedelta(days=1)),
)


def build_handlers(
    tasks: TaskService, receiving: Receiving, power: PowerOrders, kept: timedelta
) -> Mapping[str, Handler]:
    """`kept`: how long tasks are kept that are over."""

    async def silence(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"presumed_failed": await tasks.sweep(), "power_orders_ended": await power.sweep()}

    async def forget(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"forgotten": await receiving.forget() + await tasks.forget_ended(kept) + await power.forget()}

    return {SILENCE_KIND: silence, FORGET_KIND: forget}
