"""A budget of bytes a second, shared by all who take from it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from common.clock import Clock

# So much may go at once after a rest.
_BURST_SECONDS = 0.25
# Less is not slept for, but counted.
_TIMER_SECONDS = 0.01


class ByteBudget:
    """`bytes_per_second` of this process; who takes more than there is waits for its turn, first come, first served."""

    def __init__(self, bytes_per_second: int, clock: Clock) -> None:
        self._rate = bytes_per_second
        self._clock = clock
        self._free_at = 0.0

    async def take(self, count: int) -> None:
        now = self._clock.monotonic()
        self._free_at = max(self._free_at, now - _BURST_SECONDS) + count / self._rate
        if self._free_at - now > _TIMER_SECONDS:
            await self._clock.sleep(self._free_at - now)

    async def paced(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        async for piece in pieces:
            await self.take(len(piece))
            yield piece
