"""One fetch of one content while it goes on, as those who wait for it and those who read along see it.

Invariant: `landed` ends once: without a result when the whole digest matched and the cache has the content, else with
the failure. `member` is the swarm that the bytes come from now; when a swarm turns out to be false it is taken away, so
whoever read from it knows that its bytes were not the content's.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from agent.swarms import Member


def _future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


@dataclass(eq=False)
class Flight:
    landed: asyncio.Future[None] = field(default_factory=_future)
    task: asyncio.Task[None] | None = None
    aboard: int = 0
    member: Member | None = None
    _changed: asyncio.Future[None] = field(default_factory=_future)

    def comes_from(self, member: Member | None) -> None:
        self.member = member
        self._changed.set_result(None)
        self._changed = _future()

    async def news(self, seconds: float) -> None:
        """Until it landed or failed, or another swarm carries it, or so many seconds are over."""
        await asyncio.wait({self.landed, self._changed}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    def fail(self, error: Exception) -> None:
        self.landed.set_exception(error)
        self.landed.exception()  # read once, so that an abandoned flight is not reported as a lost error
