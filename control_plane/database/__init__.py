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
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from common.clock import Clock
from common.errors import Failure
from control_plane.database.engine import (
    WAIT_SECONDS,
    begin,
    database_is_silent,
    open_engine,
    translated,
    with_driver,
    writer_is_busy,
)
from control_plane.database.messages import Message
from control_plane.database.outbox import append

T = TypeVar("T")
# What a reading or a unit of work has, and its owner hands to stores.
Connection = AsyncConnection
log = structlog.get_logger()


@dataclass
class UnitOfWork:
    """One transaction. `announce` puts a message into the outbox: it is published if and only if the transaction
    commits.
    """

    connection: AsyncConnection
    clock: Clock
    announced: list[Message] = field(default_factory=list)
    afterwards: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    gathered: dict[type, Any] = field(default_factory=dict)
    settlements: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def announce(self, *messages: Message) -> None:
        """In this order; many in one statement."""
        if messages:
            await append(self.connection, messages, self.clock.now())
            self.announced.extend(messages)

    def after_commit(self, work: Callable[[], Awaitable[None]]) -> None:
        """Call `work` once the transaction has committed; for hints that may be lost. Its `Failure` is only logged:
        what was committed stays committed.
        """
        self.afterwards.append(work)

    def gather(self, kind: type[T], settle: Callable[[T], Awaitable[None]]) -> T:
        """The one `kind()` of this transaction. `settle` is called with it as the last thing before the commit, and
        refuses the transaction by raising. For what many transactions write to one row: written once and last, the row
        is held for as short as can be.
        """
        if kind not in self.gathered:
            made = self.gathered[kind] = kind()
            self.settlements.append(lambda: settle(made))
        found: T = self.gathered[kind]
        return found


class Database:
    """Owns the engine. `reading()` for queries, `transaction()` for changes."""

    def __init__(self, url: str, clock: Clock, *, pool_size: int = 10) -> None:
        """`url`: `sqlite:///path`, `postgresql://...`; the asyncio driver is chosen here."""
        self.url = with_driver(url)
        self.clock = clock
        self.is_sqlite = self.url.startswith("sqlite")
        self._writer = asyncio.Lock()  # SQLite's; on PostgreSQL writers do not wait for each other
        self.committed = asyncio.Event()  # set after each commit that announced something; the relay waits on it
        # Told at once what a transaction of this process announced: it hastens what the relay brings in any case.
        self.overheard: list[Callable[[Sequence[Message]], None]] = []
        self.engine = open_engine(self.url, pool_size)
        # Every read of one block sees the same moment, and cannot write: on PostgreSQL by these options (they cost no
        # round trip), on SQLite by the transaction that `reading` begins and nobody commits.
        self._reader = self.engine.execution_options(
            **({} if self.is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True})
        )

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reads, all of which see the database as it was at the first; nothing done on it is kept."""
        async with translated(), _connected(self._reader) as connection:
            if self.is_sqlite:
                begin(connection, writing=False)
            yield connection

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[UnitOfWork]:
        """Commits when the block ends without an exception, rolls back otherwise. Raises `Unavailable` when the
        database is away, or when on SQLite another writer does not come to an end.
        """
        async with self._turn(), translated(writing=True), _connected(self.engine) as connection:
            if self.is_sqlite:
                begin(connection, writing=True)
            unit = UnitOfWork(connection, self.clock)
            try:
                yield unit
                for settle in unit.settlements:
                    await settle()
            except BaseException:
                await connection.rollback()
                raise
            await connection.commit()
        if unit.announced:
            self.committed.set()
            for hear in self.overheard:
                hear(unit.announced)
        for work in unit.afterwards:
            try:
                await work()
            except Failure as failure:
                log.warning("hint lost", error=str(failure))

    async def close(self) -> None:
        await self.engine.dispose()

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if not self.is_sqlite:
            yield
            return
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._writer.acquire()
        except TimeoutError as error:
            raise writer_is_busy() from error
        try:
            yield
        finally:
            self._writer.release()


@contextlib.asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    async with contextlib.AsyncExitStack() as stack:
        try:
            # A server that hangs takes part in no deadline of the pool or the driver: the check at checkout would wait.
            async with asyncio.timeout(WAIT_SECONDS):
                connection = await stack.enter_async_context(engine.connect())
        except TimeoutError as error:
            raise database_is_silent() from error
        yield connection
