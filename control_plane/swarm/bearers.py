"""Whether the bearer of a content token is still one of the fleet, from the fleet's rows."""

from __future__ import annotations

from sqlalchemy import Table, select

from control_plane.database import Database
from control_plane.fleet.tables import hosts, regionals

_TABLES: dict[str, Table] = {"host": hosts, "regional": regionals}


class FleetBearers:
    """Implements `swarm.access.BearerCheck`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def may_read(self, bearer: str) -> bool:
        kind, _, identity_id = bearer.partition("/")
        table = _TABLES.get(kind)
        if table is None:
            return False
        async with self._database.reading() as connection:
            found = await connection.scalar(
                select(table.c.id).where(table.c.id == identity_id, table.c.revoked_at.is_(None))
            )
        return found is not None
