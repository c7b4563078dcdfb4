"""Inserting what may be there already, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Row, select

from control_plane.database import Database
from control_plane.database.upserts import insert_or_add, insert_or_ignore, insert_or_replace, inserted
from control_plane.jobs.tables import ticks
from control_plane.swarm.tables import egress

MOMENT = datetime(2026, 3, 1, tzinfo=UTC)
LATER = MOMENT + timedelta(hours=1)


def tick(name: str, at: datetime) -> dict[str, object]:
    return {"name": name, "next_at": at}


async def stored(database: Database) -> dict[str, datetime]:
    async with database.reading() as connection:
        rows: list[Row[tuple[str, datetime]]] = list((await connection.execute(select(ticks))).all())
    return {row.name: row.next_at for row in rows}


async def test_only_the_first_of_two_rows_with_one_key_goes_in(database: Database) -> None:
    async with database.transaction() as unit:
        assert await inserted(unit.connection, ticks, tick("a", MOMENT))
        assert not await inserted(unit.connection, ticks, tick("a", LATER))
        await insert_or_ignore(unit.connection, ticks, [tick("a", LATER), tick("b", LATER)])
    assert await stored(database) == {"a": MOMENT, "b": LATER}


async def test_a_row_that_is_there_takes_the_new_values_unless_they_are_older(database: Database) -> None:
    async with database.transaction() as unit:
        await insert_or_replace(unit.connection, ticks, [tick("a", MOMENT), tick("b", LATER)])
        await insert_or_replace(
            unit.connection, ticks, [tick("a", LATER), tick("b", MOMENT)], only=["next_at"], unless_older="next_at"
        )
    assert await stored(database) == {"a": LATER, "b": LATER}


async def test_no_rows_are_no_statement(database: Database) -> None:
    async with database.transaction() as unit:
        await insert_or_ignore(unit.connection, ticks, [])
        await insert_or_replace(unit.connection, ticks, [])
        await insert_or_add(unit.connection, egress, [], added=("bytes",))
    assert await stored(database) == {}
