"""Holding rows until the transaction ends: the lock that all replicas share, whatever else is away.

Invariant: rows are locked in the order of their primary key, so two transactions that lock several rows of one table by
one call never wait for each other in a circle. On SQLite the transaction is the only writer already, so reading is
holding. A row that does not exist is not held: insert it first (`insert_or_ignore`) where that matters; the insert
waits for another transaction that inserts or deletes the same key, and so is a lock as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Table, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection


async def hold_rows(connection: AsyncConnection, table: Table, keys: Sequence[Sequence[Any]]) -> Sequence[Row[Any]]:
    """Those of the rows that exist, as they are now and stay until the transaction ends, in the order of their key.
    `keys` have one value for each column of the primary key. Waits as long as `database.engine` lets a lock wait.
    """
    if not keys:
        return ()
    columns = list(table.primary_key)
    wanted = [tuple(key) for key in keys]
    chosen = columns[0].in_([key[0] for key in wanted]) if len(columns) == 1 else tuple_(*columns).in_(wanted)
    rows = await connection.execute(select(table).where(chosen).order_by(*columns).with_for_update())
    return rows.all()


async def hold_row(connection: AsyncConnection, table: Table, *key: Any) -> Row[Any] | None:
    """The one row of this primary key, held; None if there is none."""
    rows = await hold_rows(connection, table, [key])
    return rows[0] if rows else None
