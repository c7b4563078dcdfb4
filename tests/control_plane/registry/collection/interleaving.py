"""Runs actors in an order that a test chooses: each SQL statement, each commit and each call of the store is a step.

An actor that waits for a lock of another is found by not arriving at its next step for a moment, and the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from sqlalchemy import event
from sqlalchemy.util import await_only

from common.digest import Digest
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database

_PATIENCE_SECONDS = 0.03
_actor: ContextVar[str | None] = ContextVar("actor", default=None)


class Turns:
    """`choices` say which of the actors that are ready goes next; after the last of them, the first that is ready."""

    def __init__(self, choices: Sequence[int]) -> None:
        self._choices: Iterator[int] = iter(choices)
        self._ready: dict[str, list[asyncio.Future[None]]] = {}
        self._arrived = asyncio.Event()
        self.steps = 0

    async def step(self) -> None:
        name = _actor.get()
        if name is None:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ready.setdefault(name, []).append(turn)
        self._arrived.set()
        await turn

    async def play(self, actors: Mapping[str, Coroutine[Any, Any, None]]) -> None:
        """Until all have ended. Raises what an actor raises."""
        async with asyncio.TaskGroup() as group:
            tasks = {name: group.create_task(self._act(name, work)) for name, work in actors.items()}
            while not all(task.done() for task in tasks.values()):
                await self._settle(tasks)
                ready = sorted(name for name, turns in self._ready.items() if turns)
                if ready:
                    self.steps += 1
                    chosen = ready[next(self._choices, 0) % len(ready)]
                    turn = self._ready[chosen].pop(0)
                    if not turn.done():
                        turn.set_result(None)

    async def _act(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        _actor.set(name)
        try:
            await self.step()
            await work
        finally:
            self._arrived.set()

    async def _settle(self, tasks: Mapping[str, asyncio.Task[None]]) -> None:
        """Until everybody is ready, has ended, or waits for somebody else."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while any(not task.done() and not self._ready.get(name) for name, task in tasks.items()):
                    self._arrived.clear()
                    await self._arrived.wait()


class SteppingStore(MemoryBlobStore):
    """Each call that looks, publishes or deletes is a step, before and after."""

    turns: Turns | None = None

    async def _step(self) -> None:
        if self.turns is not None:
            await self.turns.step()

    async def commit(self, upload_id: str, digest: Digest) -> int:
        await self._step()
        size = await super().commit(upload_id, digest)
        await self._step()
        return size

    async def stat(self, digest: Digest) -> int | None:
        found = await super().stat(digest)
        await self._step()
        return found

    async def delete(self, digest: Digest) -> None:
        await self._step()
        await super().delete(digest)
        await self._step()


@contextlib.asynccontextmanager
async def stepping(database: Database, store: SteppingStore, turns: Turns) -> AsyncIterator[None]:
    """Within, whoever plays in `turns` stops at each statement and commit."""

    def before(*_: object) -> None:
        await_only(turns.step())

    engine = database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "commit", before)
    store.turns = turns
    try:
        yield
    finally:
        store.turns = None
        event.remove(engine, "before_cursor_execute", before)
        event.remove(engine, "commit", before)
