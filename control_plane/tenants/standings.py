"""What a user is allowed at this moment: one cached look-up for every request that carries a token.

Invariant: at most `standing_lifetime` (30 s) old, and without delay after a change made by this process: roles, rights,
disabling, passwords and ended tokens all travel in one value, so that checking a token needs no SQL in the common case.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from common.clock import Clock
from control_plane.cache import Cache
from control_plane.database import Database
from control_plane.tenants import token_store, user_store
from control_plane.tenants.access import Role
from control_plane.tenants.model import Standing, TenantSettings
from control_plane.tenants.short_memory import ShortMemory


class Standings:
    def __init__(self, database: Database, cache: Cache, clock: Clock, settings: TenantSettings) -> None:
        self._database = database
        self._clock = clock
        self._memory = ShortMemory(cache, settings.standing_lifetime)

    async def get(self, user_id: str) -> Standing | None:
        """None if there is no such user."""

        async def read() -> bytes | None:
            async with self._database.reading() as connection:
                standing = await user_store.read_standing(connection, user_id, self._clock.now())
            return _encode(standing) if standing is not None else None

        value = await self._memory.get(_key(user_id), read)
        return _decode(user_id, value) if value is not None else None

    async def has_ended(self, standing: Standing, access_id: str) -> bool:
        """Whether the access token was ended before its time. Queries only for a user with very many of those."""
        if standing.revoked is not None:
            return access_id in standing.revoked
        async with self._database.reading() as connection:
            return await token_store.is_revoked(connection, access_id)

    async def forget(self, user_ids: Iterable[str]) -> None:
        """After a committed change of what they are allowed."""
        await self._memory.forget(*(_key(user_id) for user_id in user_ids))


def _key(user_id: str) -> str:
    # The number is the form of the value: a newer version reads no older form.
    return f"tenants/standing/2/{user_id}"


def _encode(standing: Standing) -> bytes:
    fields = [
        standing.name,
        standing.platform_admin,
        standing.disabled,
        standing.token_generation,
        {tenant: role.value for tenant, role in standing.roles.items()},
        sorted(standing.revoked) if standing.revoked is not None else None,
        sorted(standing.groups),
    ]
    return json.dumps(fields, separators=(",", ":")).encode()


def _decode(user_id: str, value: bytes) -> Standing:
    name, platform_admin, disabled, generation, roles, revoked, groups = json.loads(value)
    return Standing(
        user_id=user_id,
        name=name,
        platform_admin=platform_admin,
        disabled=disabled,
        token_generation=generation,
        roles={tenant: Role(role) for tenant, role in roles.items()},
        revoked=frozenset(revoked) if revoked is not None else None,
        groups=frozenset(groups),
    )
