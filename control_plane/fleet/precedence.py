"""What hosts shall do goes before what they say of it, and before what people are shown of it.

A change of the whole fleet wakes all its streams; the first hosts that hear of it report at once, and to take that in
costs more than to tell the others: without precedence the last of 1,000 heard of it a third of a second later.

Invariant: a report stands back while somebody is being told, but never longer than its bound: it is only late.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

STAND_BACK_SECONDS = 1.0


class Precedence:
    """One for all streams of a process."""

    def __init__(self) -> None:
        self._telling = 0
        self._told = asyncio.Event()
        self._told.set()

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """While the desired state of one host is read and said."""
        self._telling += 1
        self._told.clear()
        try:
            yield
        finally:
            self._telling -= 1
            if not self._telling:
                self._told.set()

    async def stand_back(self, seconds: float = STAND_BACK_SECONDS) -> None:
        """Until nobody is being told, or `seconds` have passed."""
        if self._telling:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._told.wait()
