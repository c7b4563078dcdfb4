"""How much of one content on its way is verified and may be read, and waiting for more of it.

Invariant: a byte counts as readable only after its piece (or, without pieces, the whole content) was verified.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from common.byte_ranges import Span
from common.errors import Failure, Unavailable
from common.spreading import masks


class StillFetching(Unavailable):
    """The bytes are on their way and did not arrive in the time a client should wait."""

    code = "still_fetching"


class Progress:
    """A content without metainfo is a single piece. Not started: `size` is None and nothing is readable."""

    def __init__(self) -> None:
        self.size: int | None = None
        self.held_bytes = 0
        self.failure: Failure | None = None
        # Verified pieces, bit by bit: what can be leased is asked for with every lease.
        self.mask = 0
        self._piece_length = 1
        self._verified: set[int] = set()
        self._changed = asyncio.Event()

    def begin(self, size: int, piece_length: int, verified: Iterable[int]) -> None:
        """The file exists with its full length, and these pieces of it are good."""
        self.size, self._piece_length = size, max(piece_length, 1)
        self._verified = set(verified)
        self.mask = masks.of(self._verified, -(-size // self._piece_length))
        self.held_bytes = sum(self._span(index).length for index in self._verified)
        self._wake()

    def restart(self) -> None:
        """What was held turned out to be worthless."""
        self.size, self.held_bytes = None, 0
        self._verified, self.mask = set(), 0

    def mark(self, index: int) -> None:
        if index not in self._verified:
            self._verified.add(index)
            self.mask |= 1 << index
            self.held_bytes += self._span(index).length
            self._wake()

    def attempting(self) -> None:
        self.failure = None

    def fail(self, failure: Failure) -> None:
        """Those who wait for bytes that are not there learn why."""
        self.failure = failure
        self._wake()

    @property
    def complete(self) -> bool:
        return self.size is not None and self.held_bytes == self.size

    def verified(self) -> frozenset[int]:
        return frozenset(self._verified)

    def readable(self, start: int, limit: int) -> int:
        """How many bytes from `start` on, at most `limit`, are verified without a gap."""
        if self.size is None:
            return 0
        end, wanted = start, min(start + limit, self.size)
        while end < wanted and end // self._piece_length in self._verified:
            end = self._span(end // self._piece_length).end
        return max(min(end, wanted) - start, 0)

    def missing(self) -> list[range]:
        """Runs of pieces that are still to be fetched, in order."""
        if self.size is None:
            return []
        runs: list[range] = []
        for index in range(-(-self.size // self._piece_length)):
            if index in self._verified:
                continue
            if runs and runs[-1].stop == index:
                runs[-1] = range(runs[-1].start, index + 1)
            else:
                runs.append(range(index, index + 1))
        return runs

    async def wait_begun(self, seconds: float) -> int:
        """The size, once the file is there. Raises the failure of the fetch, or `StillFetching`."""
        await self._wait(lambda: self.size is not None, seconds)
        if self.size is None:
            raise StillFetching("the content is not known yet", retry_after_seconds=1)
        return self.size

    async def wait_readable(self, position: int, seconds: float) -> None:
        """Until the byte at `position` may be read. Raises as `wait_begun`."""
        await self._wait(lambda: self.readable(position, 1) > 0, seconds)

    async def _wait(self, satisfied: Callable[[], bool], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not satisfied():
                    if self.failure is not None:
                        raise self.failure
                    await self._changed.wait()
        except TimeoutError:
            raise StillFetching(
                "the bytes are still on their way from the centre", action="ask again", retry_after_seconds=2
            ) from None

    def _wake(self) -> None:
        # A fresh event for each change: every waiter of the old one runs once and looks again.
        self._changed.set()
        self._changed = asyncio.Event()

    def _span(self, index: int) -> Span:
        start = index * self._piece_length
        return Span(start, min(start + self._piece_length, self.size or 0))
