"""One relational database behind SQLAlchemy Core: SQLite (WAL) on a laptop, PostgreSQL (psycopg 3) where there are
replicas.

Invariant: writing happens in a `UnitOfWork`, which commits as a whole or not at all, together with the messages that
announce what changed. Stores take a connection, return frozen models and never commit; services own the transaction.

SQLite has one writer: units of work of one process queue on a lock (and begin IMMEDIATE, so that another process makes
us wait for `busy_timeout` instead of failing half-way). synchronous=FULL: what was acknowledged survives power loss.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from common.clock import Clock
from common.errors import Unavailable
from control_plane.database.messages import Message
from control_plane.database.outbox import append


@dataclass
class UnitOfWork:
    """One transaction. `announce` puts a message into the outbox: it is published if and only if the transaction
    commits.
    """

    connection: AsyncConnection
    clock: Clock
    announced: list[Message] = field(default_factory=list)

    async def announce(self, message: Message) -> None:
        await append(self.connection, message, self.clock.now())
        self.announced.append(message)


class Database:
    """Owns the engine. `reading()` for queries, `transaction()` for changes."""

    def __init__(self, url: str, clock: Clock, *, pool_size: int = 10) -> None:
        """`url`: `sqlite:///path`, `postgresql://...`; the asyncio driver is chosen here."""
        self.url = _with_driver(url)
        self.clock = clock
        self.is_sqlite = self.url.startswith("sqlite")
        self._writer = asyncio.Lock() if self.is_sqlite else contextlib.nullcontext()
        self.committed = asyncio.Event()  # set after each commit that announced something; the relay waits on it
        self.engine = _create_engine(self.url, self.is_sqlite, pool_size)

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reads; nothing done on it is kept."""
        async with _translated(), self.engine.connect() as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[UnitOfWork]:
        """Commits when the block ends without an exception, rolls back otherwise."""
        async with self._writer, _translated(), self.engine.connect() as connection:
            if self.is_sqlite:
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            unit = UnitOfWork(connection, self.clock)
            try:
                yield unit
            except BaseException:
                await connection.rollback()
                raise
            await connection.commit()
        if unit.announced:
            self.committed.set()

    async def close(self) -> None:
        await self.engine.dispose()


def _with_driver(url: str) -> str:
    parsed = make_url(url)
    driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
    name = driver.get(parsed.drivername, parsed.drivername)
    return parsed.set(drivername=name).render_as_string(hide_password=False)


def _create_engine(url: str, is_sqlite: bool, pool_size: int) -> AsyncEngine:
    if not is_sqlite:
        return create_async_engine(
            url, pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True, pool_timeout=10
        )
    engine = create_async_engine(url, pool_size=pool_size, connect_args={"timeout": 10})

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # The driver must not open transactions by itself: reads run in autocommit, writes begin IMMEDIATE above.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


@contextlib.asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except OperationalError as error:
        raise Unavailable("the database is away or busy", action="try again", retry_after_seconds=1) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Unavailable("the database went away", action="try again", retry_after_seconds=1) from error
        raise
