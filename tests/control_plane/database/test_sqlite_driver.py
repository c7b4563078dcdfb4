"""The SQLite connection under SQLAlchemy: one trip to its thread a statement, and nothing is overtaken."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.database import sqlite_driver


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[sqlite_driver.Connection]:
    opened = await _open(tmp_path)
    await opened.execute("PRAGMA journal_mode=WAL")
    await opened.execute("CREATE TABLE things (name TEXT PRIMARY KEY)")
    yield opened
    await opened.close()


def _open(folder: Path) -> sqlite_driver.Connection:
    path = str(folder / "things.db")
    return sqlite_driver.connect(path, isolation_level=None, check_same_thread=False, timeout=0.05)


async def names(connection: sqlite_driver.Connection) -> list[str]:
    cursor = await connection.execute("SELECT name FROM things ORDER BY name")
    return [row[0] for row in await cursor.fetchall()]


async def test_a_transaction_begins_with_its_first_statement(connection: sqlite_driver.Connection) -> None:
    connection.begin(writing=True)
    assert not connection._conn.in_transaction
    await connection.execute("INSERT INTO things VALUES ('a')")
    assert connection._conn.in_transaction
    await connection.rollback()
    assert await names(connection) == []


async def test_a_transaction_without_a_statement_ends_without_a_trace(connection: sqlite_driver.Connection) -> None:
    connection.begin(writing=True)
    await connection.commit()
    connection.begin(writing=False)
    await connection.rollback()
    await connection.execute("INSERT INTO things VALUES ('outside')")
    assert not connection._conn.in_transaction


async def test_no_statement_runs_if_its_transaction_cannot_begin(
    connection: sqlite_driver.Connection, tmp_path: Path
) -> None:
    other = await _open(tmp_path)
    other.begin(writing=True)
    await other.execute("INSERT INTO things VALUES ('theirs')")
    connection.begin(writing=True)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        await connection.execute("INSERT INTO things VALUES ('ours')")
    await other.commit()
    # Still to be begun: the next statement is in a transaction as well.
    await connection.execute("INSERT INTO things VALUES ('ours')")
    assert connection._conn.in_transaction
    await connection.commit()
    assert await names(connection) == ["ours", "theirs"]
    await other.close()


async def test_rows_and_counts_come_with_the_statement(connection: sqlite_driver.Connection) -> None:
    many = await connection.cursor().executemany("INSERT INTO things VALUES (?)", [("a",), ("b",), ("c",)])
    assert (many.rowcount, many.description) == (3, None)
    found = await connection.execute("DELETE FROM things WHERE name > ? RETURNING name", ("a",))
    assert sorted(await found.fetchall()) == [("b",), ("c",)]
    assert found.description[0][0] == "name"
    assert await names(connection) == ["a"]


async def test_what_follows_a_cancelled_statement_waits_for_it(connection: sqlite_driver.Connection) -> None:
    held = threading.Event()
    await connection.create_function("wait", 0, lambda: held.wait(5))
    connection.begin(writing=False)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await connection.execute("SELECT wait()")
    async with asyncio.TaskGroup() as group:
        rollback = group.create_task(connection.rollback())
        await asyncio.sleep(0)
        assert not rollback.done()
        held.set()
    assert not connection._conn.in_transaction


async def test_a_closed_connection_refuses_and_ends_its_thread(tmp_path: Path) -> None:
    connection = await _open(tmp_path)
    await connection.close()
    await connection.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        await connection.execute("SELECT 1")
    connection._thread.join(5)
    assert not connection._thread.is_alive()


async def test_a_file_that_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    connection = sqlite_driver.connect(str(tmp_path / "no" / "such" / "folder.db"), check_same_thread=False)
    with pytest.raises(sqlite3.OperationalError):
        await connection
    connection._thread.join(5)
    assert not connection._thread.is_alive()
