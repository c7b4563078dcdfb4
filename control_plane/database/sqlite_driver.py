"""A SQLite connection for SQLAlchemy's asyncio dialect that goes to its thread once a statement.

The dialect speaks with what aiosqlite offers, and aiosqlite goes to the connection's thread and back to make a cursor,
to execute, to fetch and to close: 170 trips for the push of one image, half of what it cost (measured). Here a
statement is one trip that does all of it and brings the rows along, BEGIN travels with the first statement of a
transaction, and ending a transaction that wrote nothing is no trip at all.

Invariant: a connection does one thing at a time, in the order asked for. Whoever is cancelled while the thread works
leaves nothing behind that could overtake: what comes next queues behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Generator, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Work = tuple[asyncio.Future[Any] | None, Callable[[], Any]]
_Done = Callable[[asyncio.Future[Any], Any, BaseException | None], None]
_Found = tuple[list[Any], Any, int, int | None]


def connect(database: str, **options: Any) -> Connection:
    """Awaited, it is open. `options` are those of `sqlite3.connect`; other threads than its own must be allowed."""
    return Connection(partial(sqlite3.connect, database, **options))


class Connection:
    """What of `aiosqlite.Connection` the dialect uses."""

    def __init__(self, opening: Callable[[], sqlite3.Connection]) -> None:
        self._opening = opening
        self._connection: sqlite3.Connection | None = None
        self._tx: SimpleQueue[_Work | None] = SimpleQueue()
        self._under_way = 0
        self._stopped = False
        self._due: str | None = None  # what begins the transaction, until it was sent
        self._writing = True
        # A daemon: a connection that was never closed must not keep the process from ending.
        self._thread = threading.Thread(target=_serve, args=(self._tx, self._done), name="sqlite", daemon=True)

    def __await__(self) -> Generator[Any, None, Connection]:
        return self._open().__await__()

    async def _open(self) -> Connection:
        self._thread.start()
        try:
            self._connection = await self._run(self._opening)
        except BaseException:
            self.stop()
            raise
        return self

    @property
    def _conn(self) -> sqlite3.Connection:
        if self._connection is None:
            raise _closed()
        return self._connection

    def begin(self, *, writing: bool) -> None:
        """Begin a transaction together with the next statement. If that fails the statement is not executed, and the
        transaction is still to be begun. One that is not `writing` is expected to be rolled back.
        """
        self._due = "BEGIN IMMEDIATE" if writing else "BEGIN"
        self._writing = writing

    def cursor(self) -> Cursor:
        return Cursor(self)

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Cursor:
        return await self.cursor().execute(statement, parameters)

    async def create_function(self, *arguments: Any, **options: Any) -> None:
        await self._run(partial(self._conn.create_function, *arguments, **options))

    async def fetch(self, statement: str, parameters: Any, *, many: bool) -> _Found:
        """Its rows, their description, how many it changed, the last row's number."""
        return await self._run(partial(self._fetch, statement, parameters, many))

    async def commit(self) -> None:
        if self._end_unbegun():
            return
        await self._run(self._conn.commit)

    async def rollback(self) -> None:
        if self._end_unbegun():
            return
        if self._under_way == 0 and not self._writing:
            self._conn.rollback()  # touches no disk and waits for nobody
        else:
            await self._run(self._conn.rollback)

    async def close(self) -> None:
        if self._connection is not None:
            future = self.stop()
            if future is not None:
                await future

    def stop(self) -> asyncio.Future[Any] | None:
        """Close once what is under way has ended; the future is of that."""
        self._stopped = True
        try:
            future: asyncio.Future[Any] | None = asyncio.get_running_loop().create_future()
        except RuntimeError:
            future = None  # collected after its loop ended
        connection, self._connection = self._connection, None
        self._under_way += 1
        self._tx.put((future, connection.close if connection is not None else _nothing))
        self._tx.put(None)
        return future

    def _fetch(self, statement: str, parameters: Any, many: bool) -> _Found:
        connection = self._conn
        if self._due is not None:
            connection.execute(self._due)
            self._due = None
        cursor = connection.executemany(statement, parameters) if many else connection.execute(statement, parameters)
        try:
            rows = cursor.fetchall() if cursor.description else []
            return rows, cursor.description, cursor.rowcount, cursor.lastrowid
        finally:
            cursor.close()

    def _end_unbegun(self) -> bool:
        """Whether the transaction that is to end had not begun."""
        unbegun, self._due = self._due is not None, None
        return unbegun

    async def _run(self, work: Callable[[], T]) -> T:
        if self._stopped:
            raise _closed()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._under_way += 1
        self._tx.put((future, work))
        return await future

    def _done(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._under_way -= 1
        if future.done():
            return  # who waited was cancelled
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


class Cursor:
    """What of `aiosqlite.Cursor` the dialect uses: what a statement found, which is all here already."""

    arraysize = 1

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    async def __aenter__(self) -> Cursor:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def execute(self, statement: str, parameters: Any = ()) -> Cursor:
        return self._take(await self._connection.fetch(statement, parameters, many=False))

    async def executemany(self, statement: str, parameters: Any) -> Cursor:
        return self._take(await self._connection.fetch(statement, parameters, many=True))

    async def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        self._rows = []

    def _take(self, found: _Found) -> Cursor:
        self._rows, self.description, self.rowcount, self.lastrowid = found
        return self


def _closed() -> sqlite3.ProgrammingError:
    # In the words of the module itself, by which SQLAlchemy knows that the connection is to be thrown away.
    return sqlite3.ProgrammingError("Cannot operate on a closed database.")


def _nothing() -> None: ...


def _serve(queue: SimpleQueue[_Work | None], done: _Done) -> None:
    """The thread: one thing after the other, until there is None."""
    while (item := queue.get()) is not None:
        future, work = item
        result, failed = None, None
        try:
            result = work()
        except BaseException as error:  # it belongs to who asked
            failed = error
        if future is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended: nobody waits
                future.get_loop().call_soon_threadsafe(done, future, result, failed)
        del item, future, work, result, failed  # nothing is kept alive while there is nothing to do
