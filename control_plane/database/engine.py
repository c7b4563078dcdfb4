"""How the two engines are opened, and which of their errors mean "try again".

Invariant: no wait without an end. Connecting, waiting for the pool, a lock or a statement each have a deadline, and all
of them become `Unavailable`. A mistake of ours (no such column) is never disguised as an outage.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from typing import Any, cast

from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from common.errors import Unavailable
from control_plane.database import sqlite_driver

WAIT_SECONDS = 10
_SQLITE_PRAGMAS = ("synchronous=FULL", "foreign_keys=ON", f"busy_timeout={WAIT_SECONDS * 1000}")
# Connections that stay open while nobody needs them.
_SQLITE_KEPT = 3
# What goes away by itself or with more disk: https://www.sqlite.org/rescode.html
_SQLITE_PASSING = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_FULL", "SQLITE_CANTOPEN", "SQLITE_READONLY")
# read_only_sql_transaction: after a failover we may still talk to the server that is a standby now.
_READ_ONLY = "25006"
# A statement, a lock and an idle transaction end on the server, a partition is noticed by the kernel (milliseconds).
_POSTGRESQL_LIMITS = "-c statement_timeout=30000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=120000"
_POSTGRESQL_CONNECTION = {
    "connect_timeout": WAIT_SECONDS,
    "tcp_user_timeout": 15000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


def with_driver(url: str) -> str:
    """`sqlite:///path` and `postgresql://...` with the asyncio driver that we use."""
    parsed = make_url(url)
    driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
    name = driver.get(parsed.drivername, parsed.drivername)
    return parsed.set(drivername=name).render_as_string(hide_password=False)


def open_engine(url: str, pool_size: int) -> AsyncEngine:
    """`url` as `with_driver` gives it."""
    if url.startswith("sqlite"):
        return _open_sqlite(url, pool_size)
    options = str(make_url(url).query.get("options", ""))
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        pool_timeout=WAIT_SECONDS,
        connect_args={**_POSTGRESQL_CONNECTION, "options": f"{_POSTGRESQL_LIMITS} {options}".strip()},
    )


def _open_sqlite(url: str, pool_size: int) -> AsyncEngine:
    # The driver must not open transactions by itself (isolation_level): `Database` begins them, deferred to read,
    # IMMEDIATE to write.
    options = {"timeout": WAIT_SECONDS, "isolation_level": None, "async_creator_fn": sqlite_driver.connect}
    # Each connection keeps its pages and 128 prepared statements; those that a crowd had opened, ten at most, held
    # 10 MB. Of these few the one that was used last is used next, so what it keeps is of use.
    kept = min(pool_size, _SQLITE_KEPT)
    engine = create_async_engine(
        url,
        pool_size=kept,
        max_overflow=2 * pool_size - kept,
        pool_use_lifo=True,
        pool_timeout=WAIT_SECONDS,
        connect_args=options,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.run_async(_use_wal)
        cursor = connection.cursor()
        for pragma in _SQLITE_PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


def begin(connection: AsyncConnection, *, writing: bool) -> None:
    """On SQLite; the database hears of it with the first statement."""
    pooled = cast(Connection, connection.sync_connection).connection
    driver = cast(sqlite_driver.Connection, pooled.driver_connection)
    driver.begin(writing=writing)


async def _use_wal(connection: sqlite_driver.Connection) -> None:
    """The file remembers the mode. Switching fails at once, whatever busy_timeout says, while another process is
    switching too: seen in one of 160 connections when four began together.
    """
    for _ in range(100):
        try:
            await connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise
            await asyncio.sleep(0.02)
        else:
            return
    raise writer_is_busy()


@contextlib.asynccontextmanager
async def translated(*, writing: bool = False) -> AsyncIterator[None]:
    """Raises `Unavailable` for what a later try may mend, and leaves every other error as it is. `writing`: the server
    refusing it is its state, not a mistake of ours.
    """
    try:
        yield
    except PoolExhausted as error:
        raise _away("every database connection is in use") from error
    except DBAPIError as error:
        if error.connection_invalidated or _passes(error) or (writing and _is_standby(error)):
            raise _away("the database is away or busy") from error
        raise


def _is_standby(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) == _READ_ONLY


def _passes(error: DBAPIError) -> bool:
    if not isinstance(error, OperationalError):
        return False
    # To the sqlite3 module an unknown column is an OperationalError too; only the code tells.
    code = getattr(error.orig, "sqlite_errorname", None)
    return code is None or str(code).startswith(_SQLITE_PASSING)


def _away(detail: str) -> Unavailable:
    return Unavailable(detail, action="try again", retry_after_seconds=1)


def writer_is_busy() -> Unavailable:
    return _away(f"another change has held the database for {WAIT_SECONDS} s")


def database_is_silent() -> Unavailable:
    return _away(f"the database has not answered for {WAIT_SECONDS} s")
