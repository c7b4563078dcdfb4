"""Inserting what may be there already, on both engines: two pushes of one thing at one time are normal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


async def insert_or_keep(connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]]) -> int:
    """Insert the rows whose primary or unique key is free; returns how many were."""
    if not rows:
        return 0
    statement = _insert(connection, table).values(list(rows)).on_conflict_do_nothing()
    return (await connection.execute(statement)).rowcount


async def insert_or_update(
    connection: AsyncConnection, table: Table, row: dict[str, Any], changed: Sequence[str]
) -> None:
    """Insert the row, or set its `changed` columns where its primary key exists."""
    statement = _insert(connection, table).values(row)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={name: statement.excluded[name] for name in changed},
        )
    )


def _insert(connection: AsyncConnection, table: Table) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)
