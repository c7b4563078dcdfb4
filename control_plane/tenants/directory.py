"""Tenants' names to ids and back, for the domains above, whose rows hold ids and whose users say names.

Asks for no permission: the caller has checked the principal's right on the name. Every pull and push asks for one id,
so a single name is answered from the cache: an id belongs to its name for as long as the tenant lives.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from common.errors import NotFound
from control_plane.cache import Cache
from control_plane.database import Database
from control_plane.tenants import group_store, store, user_store
from control_plane.tenants.model import TenantNameInvalid, TenantSettings, check_tenant_name
from control_plane.tenants.short_memory import ShortMemory


class TenantUnknown(NotFound):
    code = "tenant_unknown"


class TenantDirectory:
    def __init__(self, database: Database, cache: Cache, settings: TenantSettings) -> None:
        self._database = database
        self._memory = ShortMemory(cache, settings.standing_lifetime)

    async def ids_of(self, names: Collection[str]) -> Mapping[str, str]:
        """By name; unknown ones are absent."""
        possible = [name for name in names if _can_exist(name)]
        if len(possible) == 1:
            found = await self._memory.get(_key(possible[0]), lambda: self._read(possible[0]))
            return {possible[0]: found.decode()} if found is not None else {}
        async with self._database.reading() as connection:
            return await store.ids_of(connection, possible)

    async def names_of(self, ids: Collection[str]) -> Mapping[str, str]:
        """By id; unknown ones are absent."""
        async with self._database.reading() as connection:
            return await store.names_of(connection, ids)

    async def id_of(self, name: str) -> str:
        """Raises `TenantUnknown`."""
        found = (await self.ids_of([name])).get(name)
        if found is None:
            raise TenantUnknown(f"there is no tenant {name[:80]!r}", action="create it first")
        return found

    async def user_ids_of(self, names: Collection[str]) -> Mapping[str, str]:
        """By name; unknown ones are absent."""
        async with self._database.reading() as connection:
            return await user_store.ids_of(connection, [name for name in names if "\x00" not in name])

    async def user_names_of(self, ids: Collection[str]) -> Mapping[str, str]:
        """By id; unknown ones are absent."""
        async with self._database.reading() as connection:
            return await user_store.names_of(connection, ids)

    async def group_ids_of(self, tenant_id: str) -> Mapping[str, str]:
        """Of all groups of the tenant, by name."""
        async with self._database.reading() as connection:
            return await group_store.ids_of(connection, tenant_id)

    async def forget(self, name: str) -> None:
        """After the tenant was deleted; the next one of that name has another id."""
        await self._memory.forget(_key(name))

    async def _read(self, name: str) -> bytes | None:
        async with self._database.reading() as connection:
            found = (await store.ids_of(connection, [name])).get(name)
        return found.encode() if found is not None else None


def _can_exist(name: str) -> bool:
    # Keys of the cache are short printable ASCII, and PostgreSQL refuses NUL.
    try:
        check_tenant_name(name)
    except TenantNameInvalid:
        return False
    return True


def _key(name: str) -> str:
    return f"tenants/id/1/{name}"
