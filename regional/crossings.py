"""How many payload bytes crossed the WAN for each content, by the tenant whose token asked.

Everything that came over the line counts, whatever becomes of it. The number survives kill -9 up to the piece in
flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from common.digest import Digest
from regional.directory import ContentDirectory, DiskFailed, DiskFull
from regional.model import ContentKey


class Crossings:
    def __init__(self, directory: ContentDirectory) -> None:
        self._directory = directory
        self._counts: dict[ContentKey, int] = {}
        self._saved: dict[ContentKey, int] = {}
        self.process_total = 0
        self._saving = asyncio.Lock()

    async def load(self, key: ContentKey) -> None:
        """Call before `add` for a key; harmless to repeat."""
        if key not in self._counts:
            count = await asyncio.to_thread(self._directory.crossed, key)
            self._counts.setdefault(key, count)
            self._saved.setdefault(key, count)

    def add(self, key: ContentKey, count: int) -> None:
        self._counts[key] = self._counts.get(key, 0) + count
        self.process_total += count

    @contextmanager
    def metering(self, key: ContentKey, received: Callable[[], int]) -> Iterator[Callable[[], None]]:
        """Count what `received` grows by: whenever the given function is called, and at the end."""
        counted = 0

        def take() -> None:
            nonlocal counted
            now = received()
            self.add(key, now - counted)
            counted = now

        try:
            yield take
        finally:
            take()

    def count(self, key: ContentKey) -> int:
        return self._counts.get(key, 0)

    async def save(self, key: ContentKey) -> None:
        # One after another: a content has several connections, and an older number must not be written last.
        async with self._saving:
            count = self._counts.get(key, 0)
            if count == self._saved.get(key, 0):
                return
            try:
                await asyncio.to_thread(self._directory.save_crossed, key, count)
            except (DiskFull, DiskFailed):
                return  # The fetch itself meets the same disk and says so; the number stays right in memory.
            self._saved[key] = count

    def forget(self, digest: Digest) -> None:
        for key in [key for key in self._counts if key.digest == digest]:
            del self._counts[key]
            self._saved.pop(key, None)
