"""Tenants' names to ids and back, for the domains above, whose rows hold ids and whose users say names.

Asks for no permission: the caller has checked the principal's right on the name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from control_plane.database import Database
from control_plane.tenants import store
from control_plane.tenants.service import TenantUnknown


class TenantDirectory:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def ids_of(self, names: Collection[str]) -> Mapping[str, str]:
        """By name; unknown ones are absent."""
        async with self._database.reading() as connection:
            return await store.ids_of(connection, names)

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
