"""How late an answer may come on a machine that runs other tests beside this one.

A wait that must end is held to its own deadline plus this: what is told apart is an end and no end, never a fast
machine and a busy one. How fast something is belongs to `benchmarks/`.
"""

from __future__ import annotations

import asyncio
from typing import Final, Self

BUSY_SECONDS: Final = 20.0
_TICK_SECONDS = 0.02


class Stall:
    """`seconds` is how much longer than asked for this event loop slept while it was entered: for what has to happen
    within a time that belongs to the product, on a machine that may stop for a moment.

        async with Stall() as stall:
            await lost.wait()
        assert elapsed <= 3 + stall.seconds
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    async def __aenter__(self) -> Self:
        self._watching = asyncio.ensure_future(self._watch())
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(_TICK_SECONDS)
            self.seconds += loop.time() - began - _TICK_SECONDS
