"""Periodic work of tenants: forgetting credentials that ended, and keeping the signing key young."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob
from control_plane.tenants.registry_logins import RegistryLogins
from control_plane.tenants.robots import RobotService
from control_plane.tenants.sessions import SessionService
from control_plane.tenants.signing_keys import SigningKeys

FORGET_KIND = "tenants.forget_expired_tokens"
ROTATE_KIND = "tenants.rotate_signing_key"
_KEY_LIFE = timedelta(days=90)

SCHEDULES = (
    Schedule(FORGET_KIND, FORGET_KIND, timedelta(hours=1)),
    Schedule(ROTATE_KIND, ROTATE_KIND, timedelta(hours=6)),
)


def build_handlers(
    sessions: SessionService, keys: SigningKeys, robots: RobotService, logins: RegistryLogins
) -> Mapping[str, Handler]:
    async def forget_expired(job: RunningJob) -> Mapping[str, Any] | None:
        return {
            "rows": await sessions.forget_expired(),
            "robot_keys": await robots.forget_ended(),
            "registry_logins": await logins.forget_expired(),
        }

    async def rotate_key(job: RunningJob) -> Mapping[str, Any] | None:
        return {"key_id": await keys.rotate_when_older(_KEY_LIFE)}

    return {FORGET_KIND: forget_expired, ROTATE_KIND: rotate_key}
