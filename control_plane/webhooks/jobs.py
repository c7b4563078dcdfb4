"""Periodic work of the webhooks: giving up what is over and forgetting what ended long ago."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob
from control_plane.webhooks.service import WebhookService

TIDY_KIND = "webhooks.tidy"

SCHEDULES = (Schedule(TIDY_KIND, TIDY_KIND, timedelta(minutes=15)),)


def build_handlers(webhooks: WebhookService, keep: timedelta) -> Mapping[str, Handler]:
    async def tidy(_job: RunningJob) -> Mapping[str, Any] | None:
        given_up, forgotten = await webhooks.tidy(keep)
        return {"given_up": given_up, "forgotten": forgotten}

    return {TIDY_KIND: tidy}
