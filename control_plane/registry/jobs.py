"""Periodic work of the registry: forgetting uploads that nobody finished."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob
from control_plane.registry.service import RegistryService
from control_plane.registry.uploads import UPLOAD_LIFETIME

EXPIRE_KIND = "registry.expire_uploads"

SCHEDULES = (Schedule(EXPIRE_KIND, EXPIRE_KIND, timedelta(hours=1)),)


def build_handlers(registry: RegistryService, upload_lifetime: timedelta = UPLOAD_LIFETIME) -> Mapping[str, Handler]:
    async def expire_uploads(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"expired": await registry.uploads.expire(upload_lifetime)}

    return {EXPIRE_KIND: expire_uploads}
