"""Inserting what may be there already, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Row, select

from control_plane.database import Database
from control_plane.database.upserts import (
    insert_or_add,
    insert_or_ignore,
    insert_or_ignore_each,
    insert_or_replace,
    insert_or_replace_each,
    inserted,
)
from control_plane.jobs.tables import ticks
from control_plane.swarm.tables import egress, wanted_contents

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


async def test_one_row_for_each_of_many_texts_and_those_that_are_there_take_what_is_new(database: Database) -> None:
    odd = ["a", "it's", 'q"uo\\te', "\N{SNOWMAN}", "[1,2]", ""]
    names = [f"t-{number}" for number in range(2_000)]
    async with database.transaction() as unit:
        await insert_or_replace_each(unit.connection, ticks, {"name": odd[:2]}, {"next_at": MOMENT}, only=["next_at"])
        await insert_or_replace_each(
            unit.connection, ticks, {"name": [*odd, *names]}, {"next_at": LATER}, only=["next_at"]
        )
        await insert_or_replace_each(unit.connection, ticks, {"name": []}, {"next_at": MOMENT}, only=["next_at"])
    assert await stored(database) == dict.fromkeys([*odd, *names], LATER)


async def test_of_a_row_that_is_there_only_the_named_columns_change(database: Database) -> None:
    row = {"idc_id": "i", "list_id": "l", "tenant_id": "t", "size_bytes": 1, "media_type": "m"}
    each = {"digest": ["one", "two"]}
    table = wanted_contents
    async with database.transaction() as unit:
        for more in ({}, {"media_type": "n", "size_bytes": 9}):
            await insert_or_replace_each(unit.connection, table, each, row | more, only=["media_type"])
        found = await unit.connection.execute(select(table.c.digest, table.c.size_bytes, table.c.media_type))
        assert sorted(tuple(one) for one in found) == [("one", 1, "n"), ("two", 1, "n")]


async def test_rows_that_differ_in_several_texts_are_added_together_and_those_that_are_there_stay(
    database: Database,
) -> None:
    row = {"idc_id": "i", "tenant_id": "t", "size_bytes": 1, "media_type": "it's [1,2]"}
    table = wanted_contents
    each = {"list_id": ["one", "tw'o", "{}"], "digest": ["d1", 'd"2', ""]}
    async with database.transaction() as unit:
        await insert_or_ignore_each(unit.connection, table, each, row)
        more = {"list_id": [*each["list_id"], "new"], "digest": [*each["digest"], "d1"]}
        await insert_or_ignore_each(unit.connection, table, more, row | {"size_bytes": 9})
        await insert_or_ignore_each(unit.connection, table, {"list_id": [], "digest": []}, row)
        found = await unit.connection.execute(
            select(table.c.list_id, table.c.digest, table.c.size_bytes, table.c.media_type)
        )
        assert {tuple(one) for one in found} == {
            ("one", "d1", 1, "it's [1,2]"),
            ("tw'o", 'd"2', 1, "it's [1,2]"),
            ("{}", "", 1, "it's [1,2]"),
            ("new", "d1", 9, "it's [1,2]"),
        }
