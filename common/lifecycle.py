"""One owner for everything a process runs: ordered start, owned tasks, graceful stop, a deadline on stopping.

Invariant: no task outlives its `Lifecycle`, and a task that fails takes the process down with its error instead of
dying silently.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog

T = TypeVar("T")
log = structlog.get_logger()


def being_cancelled() -> bool:
    """Whether somebody asked the current task to stop. Ask it wherever failures are caught and work goes on: before
    Python 3.13 a `TaskGroup` whose tasks fail while it is being cancelled raises their errors and forgets the
    cancellation.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Lifecycle:
    """Use as an async context manager. Leaving it cancels the tasks, then closes what was entered, last first.

    `stop_seconds` bounds the time that all tasks together may take to end after they are cancelled.
    """

    def __init__(self, stop_seconds: float = 10.0) -> None:
        self.stopping = asyncio.Event()
        self._stop_seconds = stop_seconds
        self._stack = AsyncExitStack()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stopping.set()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._stop_seconds)
            for task in late:
                log.warning("task ignored its cancellation", task=task.get_name())
        await self._stack.aclose()
        if self._failure is not None and error is None:
            raise self._failure

    async def enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """Start a part; it is closed in reverse order of entering, after all tasks have ended."""
        return await self._stack.enter_async_context(context)

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` until it returns or the lifecycle ends. Its failure stops the process."""
        task = asyncio.create_task(work, name=name)  # noqa: TID251  this is the one owner the ban points to
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None and self._failure is None:
            log.error("task failed", task=task.get_name(), error=repr(failure))
            self._failure = failure
            self.stopping.set()

    async def run_until_stopped(self) -> None:
        """Wait for SIGTERM, SIGINT or a failed task; raises that task's failure."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self.stopping.set)
        await self.stopping.wait()
        if self._failure is not None:
            raise self._failure
