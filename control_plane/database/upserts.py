"""`INSERT ... ON CONFLICT` for both engines: SQLAlchemy spells it per dialect, with the same words.

For stores: two requests that insert one thing at one time are normal, and several replicas may do so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, String, Table, TextClause, bindparam, func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

Insert = sqlite.Insert | postgresql.Insert
Row = Mapping[str, Any]
Rows = Sequence[Row]
Each = Mapping[str, Sequence[str]]  # texts by column
_EACH = "each_row"


def insert_into(connection: AsyncConnection, table: Table) -> Insert:
    """An insert that knows `on_conflict_do_nothing` and `on_conflict_do_update` on this connection's engine."""
    return insert_by(connection.dialect.name, table)


def insert_by(dialect: str, table: Table) -> Insert:
    """For statements that are made once for each engine (`connection.dialect.name`)."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


async def insert_or_ignore(connection: AsyncConnection, table: Table, rows: Rows) -> None:
    """Rows whose key is already there are left as they are."""
    if rows:
        await connection.execute(_ignoring(connection.dialect.name, table), list(rows))


async def inserted(
    connection: AsyncConnection,
    table: Table,
    row: Row,
    *,
    unless: Sequence[str] | None = None,
    where: ColumnElement[bool] | TextClause | None = None,
) -> bool:
    """Insert the row; false if its key is already there. `unless` names the columns of the one key that may be taken
    (of a partial index `where`); without, any may.
    """
    if unless is None and where is None:
        statement = _unless_there(connection.dialect.name, table)
    else:
        statement = insert_into(connection, table).on_conflict_do_nothing(index_elements=unless, index_where=where)
        statement = statement.returning(*table.primary_key)
    # RETURNING says whether a row went in; the count of rows does not, for an INSERT on PostgreSQL (-1).
    return (await connection.execute(statement, row)).first() is not None


# Statements are made once: building one costs 60 us of CPU, more than executing it on SQLite (45 us).
@cache
def _ignoring(dialect: str, table: Table) -> Insert:
    return insert_by(dialect, table).on_conflict_do_nothing()


@cache
def _unless_there(dialect: str, table: Table) -> Any:
    return _ignoring(dialect, table).returning(*table.primary_key)


async def insert_or_replace(
    connection: AsyncConnection,
    table: Table,
    rows: Rows,
    *,
    only: Sequence[str] | None = None,
    unless_older: str | None = None,
) -> None:
    """Rows whose primary key is already there take the new values of every other column, or of those in `only`; with
    `unless_older` only if the new value of that column is not smaller than the old one.
    """
    if rows:
        statement = _replacing(connection.dialect.name, table, None if only is None else tuple(only), unless_older)
        await connection.execute(statement, list(rows))


@cache
def _replacing(dialect: str, table: Table, only: tuple[str, ...] | None, unless_older: str | None) -> Insert:
    # Made once: `excluded` copies every column of the table, a tenth of what a push costs (measured).
    keys = [column.name for column in table.primary_key]
    statement = insert_by(dialect, table)
    changed = only or [column.name for column in table.columns if column.name not in keys]
    values = {name: statement.excluded[name] for name in changed}
    newer = None if unless_older is None else statement.excluded[unless_older] >= table.c[unless_older]
    return statement.on_conflict_do_update(index_elements=keys, set_=values, where=newer)


async def insert_or_replace_each(
    connection: AsyncConnection, table: Table, each: Each, row: Row, *, only: Sequence[str]
) -> None:
    """`insert_or_replace` of the same row with other texts in the columns of `each`, which are equally long: they are
    bound together, and what all rows have alike is bound and encoded once.
    """
    if any(each.values()):
        statement = _replacing_each(connection.dialect.name, table, tuple(each), tuple(row), tuple(only))
        await connection.execute(statement, {**row, **_bound(connection.dialect.name, each)})


async def insert_or_ignore_each(connection: AsyncConnection, table: Table, each: Each, row: Row) -> None:
    """`insert_or_ignore`, with rows that are given as to `insert_or_replace_each`."""
    if any(each.values()):
        statement = _ignoring_each(connection.dialect.name, table, tuple(each), tuple(row))
        await connection.execute(statement, {**row, **_bound(connection.dialect.name, each)})


def _bound(dialect: str, each: Each) -> Row:
    if dialect == "sqlite":
        return {_EACH: json.dumps(list(zip(*each.values(), strict=True)))}
    return {name: list(texts) for name, texts in each.items()}


@cache
def _replacing_each(
    dialect: str, table: Table, varying: tuple[str, ...], others: tuple[str, ...], only: tuple[str, ...]
) -> Insert:
    statement = _inserting_each(dialect, table, varying, others)
    keys = [key.name for key in table.primary_key]
    return statement.on_conflict_do_update(index_elements=keys, set_={name: statement.excluded[name] for name in only})


@cache
def _ignoring_each(dialect: str, table: Table, varying: tuple[str, ...], others: tuple[str, ...]) -> Insert:
    return _inserting_each(dialect, table, varying, others).on_conflict_do_nothing()


def _inserting_each(dialect: str, table: Table, varying: tuple[str, ...], others: tuple[str, ...]) -> Insert:
    chosen: list[ColumnElement[Any]]
    if dialect == "sqlite":
        rows = func.json_each(bindparam(_EACH, type_=String)).table_valued("value", name=_EACH)
        chosen = [func.json_extract(rows.c.value, f"$[{place}]") for place in range(len(varying))]
    else:
        arrays = [bindparam(name, type_=postgresql.ARRAY(String)) for name in varying]
        unnested = func.unnest(*arrays).table_valued(*varying, name=_EACH).render_derived()
        chosen = [unnested.c[name] for name in varying]
    chosen += [bindparam(name, type_=table.c[name].type) for name in others]
    # Without a WHERE SQLite takes the ON of ON CONFLICT for that of a join (https://www.sqlite.org/lang_upsert.html).
    return insert_by(dialect, table).from_select([*varying, *others], select(*chosen).where(text("1 = 1")))


async def insert_or_add(connection: AsyncConnection, table: Table, rows: Rows, added: Iterable[str]) -> None:
    """Rows whose primary key is already there have the columns `added` increased, in the statement itself, so that
    several replicas may do it at once and no count is lost.
    """
    if rows:
        await connection.execute(_adding(connection.dialect.name, table, tuple(added)), list(rows))


@cache
def _adding(dialect: str, table: Table, added: tuple[str, ...]) -> Insert:
    keys = [column.name for column in table.primary_key]
    statement = insert_by(dialect, table)
    values = {name: table.c[name] + statement.excluded[name] for name in added}
    return statement.on_conflict_do_update(index_elements=keys, set_=values)
