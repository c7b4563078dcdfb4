"""Whom a robot's key speaks for: one cached look-up for every request that carries one, or a token made with one.

Invariant: at most `standing_lifetime` (30 s) old, and without delay after a change made by this process. A wrong key is
refused the same whatever is wrong with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from common.clock import Clock
from common.errors import Unauthenticated
from common.identifiers import is_id
from control_plane.cache import Cache
from control_plane.database import Database, UnitOfWork
from control_plane.tenants import robot_store
from control_plane.tenants.access import Principal, RobotScope
from control_plane.tenants.key_uses import KeyUses
from control_plane.tenants.model import TenantSettings
from control_plane.tenants.opaque import OpaqueSecret
from control_plane.tenants.short_memory import ShortMemory

ROBOT_PREFIX = "lsr_"


class RobotKeyInvalid(Unauthenticated):
    code = "robot_key_invalid"


@dataclass(frozen=True, slots=True)
class _Known:
    robot_id: str
    tenant: str
    login: str
    scopes: tuple[RobotScope, ...]
    secret_hash: str
    expires_at: float | None


class RobotKeys:
    def __init__(self, database: Database, clock: Clock, cache: Cache, settings: TenantSettings) -> None:
        self._database = database
        self._clock = clock
        self._memory = ShortMemory(cache, settings.standing_lifetime)
        self._uses = KeyUses(database, clock, _touch)

    async def authenticate(self, text: str) -> Principal:
        """Raises `RobotKeyInvalid`, the same for every reason."""
        given = OpaqueSecret.parse(ROBOT_PREFIX, text)
        known = await self._find(given.id) if given is not None else None
        if given is None or known is None or not given.matches(known.secret_hash):
            raise _invalid()
        principal = self._principal(given.id, known)
        await self._uses.record(given.id)
        return principal

    async def principal(self, key_id: str) -> Principal:
        """Whom a key speaks for that was shown before. Raises `RobotKeyInvalid` if it does not count any more."""
        known = await self._find(key_id)
        if known is None:
            raise _invalid()
        return self._principal(key_id, known)

    async def forget(self, key_ids: Iterable[str]) -> None:
        """After a committed change of what the keys open."""
        await self._memory.forget(*map(_cache_key, key_ids))

    def _principal(self, key_id: str, known: _Known) -> Principal:
        if known.expires_at is not None and known.expires_at <= self._clock.now().timestamp():
            raise _invalid()
        return Principal(
            known.robot_id, known.login, limited=True, tenant=known.tenant, robot=known.scopes, key_id=key_id
        )

    async def _find(self, key_id: str) -> _Known | None:
        async def read() -> bytes | None:
            async with self._database.reading() as connection:
                found = await robot_store.find_key(connection, key_id)
            return _encode(found) if found is not None and not found.robot.disabled else None

        value = await self._memory.get(_cache_key(key_id), read) if is_id(key_id) else None
        return _decode(value) if value is not None else None


async def _touch(unit: UnitOfWork, key_id: str, now: datetime, not_after: datetime) -> None:
    await robot_store.touch_key(unit.connection, key_id, now, not_after)


def _cache_key(key_id: str) -> str:
    return f"tenants/robot-key/1/{key_id}"


def _encode(found: robot_store.KnownKey) -> bytes:
    robot, key = found.robot, found.key
    ends = [moment.timestamp() for moment in (robot.expires_at, key.expires_at) if moment is not None]
    scopes = robot_store.encode_scopes(robot.scopes)
    fields = [robot.id, robot.tenant, robot.login, scopes, key.secret_hash, min(ends, default=None)]
    return json.dumps(fields).encode()


def _decode(value: bytes) -> _Known:
    robot_id, tenant, login, scopes, secret_hash, expires_at = json.loads(value)
    return _Known(robot_id, tenant, login, robot_store.decode_scopes(scopes), secret_hash, expires_at)


def _invalid() -> RobotKeyInvalid:
    return RobotKeyInvalid("the robot's key is not valid", action="check it; it may have expired or been ended")
