"""Periodic work of rollouts: waves follow each other, hosts that joined late are told, what is over is forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from control_plane.agent_rollouts.service import AgentRolloutService
from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob

CARRY_ON_KIND = "agent_rollouts.carry_on"
LATECOMERS_KIND = "agent_rollouts.latecomers"
SWEEP_KIND = "agent_rollouts.sweep"
_ENDED_KEPT = timedelta(days=180)

SCHEDULES = (
    Schedule(CARRY_ON_KIND, CARRY_ON_KIND, timedelta(seconds=15)),
    Schedule(LATECOMERS_KIND, LATECOMERS_KIND, timedelta(minutes=5)),
    Schedule(SWEEP_KIND, SWEEP_KIND, timedelta(days=1)),
)


def build_handlers(service: AgentRolloutService) -> Mapping[str, Handler]:
    async def carry_on(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"moved": await service.carry_on()}

    async def latecomers(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"moved": await service.tell_latecomers()}

    async def sweep(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"forgotten": await service.forget_ended(_ENDED_KEPT)}

    return {CARRY_ON_KIND: carry_on, LATECOMERS_KIND: latecomers, SWEEP_KIND: sweep}
