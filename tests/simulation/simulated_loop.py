"""An event loop whose time is simulated: it never waits, and an hour passes as fast as its callbacks run.

Invariant: nothing here reads the machine's clocks, opens a socket or starts a thread, so the same seed gives the same
run. Work for a thread is done in the loop, after a delay that the seed chose; a process that is killed meanwhile has
done it or has not, as with a real thread.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")
START = datetime(2026, 1, 1, tzinfo=UTC)


class Stuck(AssertionError):
    """Everybody waits for somebody: nothing will ever happen again."""


class Power:
    """Of one process: once it is off, nothing that the process does has an effect any more."""

    def __init__(self, chance: random.Random) -> None:
        self.on = True
        self.chance = chance

    def check(self) -> None:
        if not self.on:
            raise asyncio.CancelledError


# Inherited by every task that the process starts.
running_process: ContextVar[Power | None] = ContextVar("running_process", default=None)


class _Selector(selectors.SelectSelector):
    """Instead of waiting, time moves on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Stuck("nothing is scheduled")
        self.now += max(0.0, timeout)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    def __init__(self, thread_seconds: float = 0.004) -> None:
        self._simulated = _Selector()
        self._thread_seconds = thread_seconds
        super().__init__(self._simulated)

    def time(self) -> float:
        return self._simulated.now

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        power = running_process.get()
        future: asyncio.Future[T] = self.create_future()
        if power is None:
            _carry_out(future, func, args)
            return future
        at_once = power.chance.random() < 0.5
        done: list[Callable[[], None]] = []
        if at_once:
            # The effect is there, the answer still on its way: a kill in between leaves it behind.
            shadow: asyncio.Future[T] = self.create_future()
            _carry_out(shadow, func, args)
            done.append(lambda: _pass_on(shadow, future))
        else:
            done.append(lambda: _carry_out(future, func, args) if power.on else None)
        self.call_later(power.chance.random() * self._thread_seconds, done[0])
        return future


def _carry_out(future: asyncio.Future[T], func: Callable[..., T], args: tuple[Any, ...]) -> None:
    if future.cancelled():
        return
    try:
        future.set_result(func(*args))
    except Exception as error:
        future.set_exception(error)


def _pass_on(shadow: asyncio.Future[T], future: asyncio.Future[T]) -> None:
    error = shadow.exception()
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(shadow.result())


class SimulatedClock:
    """`skew_seconds`: how far this machine's wall clock is off."""

    def __init__(self, loop: asyncio.AbstractEventLoop, skew_seconds: float = 0.0) -> None:
        self._loop = loop
        self._skew = timedelta(seconds=skew_seconds)

    def now(self) -> datetime:
        return START + self._skew + timedelta(seconds=self._loop.time())

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


@contextmanager
def simulated_loop() -> Iterator[SimulatedLoop]:
    loop = SimulatedLoop()
    try:
        yield loop
    finally:
        loop.close()


def simulate(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `work()` in simulated time."""
    with simulated_loop() as loop:
        return loop.run_until_complete(work())
