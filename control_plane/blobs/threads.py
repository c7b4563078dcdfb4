"""Blocking work of a store in its own threads, and pouring what arrives into a blocking writer.

Invariant: what was begun in a thread has ended when the caller goes on, also when the caller is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

_LARGEST_BATCH, _SMALLEST_BATCH = 1 << 20, 256 << 10
# Of all pours together, while there are no more than 64 of them; each may hold two batches.
_BATCHES = 16 << 20
_BATCH_PIECES = 512
P = ParamSpec("P")
T = TypeVar("T")


class BlobThreads:
    """At most `count` calls at once."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="blobs")
        self._pours = 0

    @contextlib.contextmanager
    def pouring(self) -> Iterator[Callable[[], int]]:
        """Yields what says how many bytes a batch should have now: the more pour, the less, so that 64 clients who push
        at once hold 32 MiB at most. Each batch is an errand for a thread, so a few clients get large ones.
        """
        self._pours += 1
        try:
            yield lambda: max(_SMALLEST_BATCH, min(_LARGEST_BATCH, _BATCHES // self._pours))
        finally:
            self._pours -= 1

    def start(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, partial(call, *args, **kwargs))

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """For callers that are in a thread themselves; those of the same pool must not wait for it."""
        return self._pool.submit(call, *args, **kwargs)

    async def run(self, call: Callable[..., T], *args: object, undo: Callable[[T], None] | None = None) -> T:
        """Call in a thread. A thread cannot be cancelled: we wait for it, then `undo` what it got, then end."""
        future = self.start(call, *args)
        try:
            return await finished(future)
        except asyncio.CancelledError:
            if undo is not None and future.done() and not future.cancelled() and future.exception() is None:
                undo(future.result())
            raise

    async def ask(self, call: Callable[..., T], *args: object) -> T:
        """Call in a thread what changes nothing and holds nothing: who is cancelled does not wait for it."""
        return await asyncio.shield(self.start(call, *args))

    async def close(self) -> None:
        await asyncio.to_thread(self._pool.shutdown)


async def finished(future: asyncio.Future[T]) -> T:
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise


async def pour(threads: BlobThreads, chunks: AsyncIterator[bytes], write: Callable[[Sequence[bytes]], None]) -> None:
    """One batch is written while the next is received, so at most two are in memory."""
    with threads.pouring() as batch_bytes:
        await _pour(threads, chunks, write, batch_bytes)


async def _pour(
    threads: BlobThreads,
    chunks: AsyncIterator[bytes],
    write: Callable[[Sequence[bytes]], None],
    batch_bytes: Callable[[], int],
) -> None:
    writing: asyncio.Future[None] | None = None
    batch: list[bytes] = []
    waiting = 0
    try:
        async for chunk in chunks:
            batch.append(chunk)
            waiting += len(chunk)
            if waiting >= batch_bytes() or len(batch) >= _BATCH_PIECES:
                if writing is not None:
                    await finished(writing)
                writing = threads.start(write, batch)
                batch, waiting = [], 0
    finally:
        # Also when the sender is gone or we are cancelled: what arrived stays, so that it need not be sent again.
        if writing is not None:
            await finished(writing)
        if batch:
            await threads.run(write, batch)
