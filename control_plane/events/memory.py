"""The bus of one process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from control_plane.events import Event
from control_plane.events.fanout import Fanout, decode, encode


class MemoryEventBus:
    """Implements the port `control_plane.events.EventBus`."""

    def __init__(self) -> None:
        self._fanout = Fanout()

    async def publish(self, event: Event) -> None:
        # Through JSON, as between processes: a payload that only works here, or is changed later, shows at once.
        data = encode(event)
        if self._fanout.listens(event.topic):
            self._fanout.deliver(decode(event.topic, data))

    @contextlib.asynccontextmanager
    async def subscribe(self, *topics: str, capacity: int = 1000) -> AsyncIterator[AsyncIterator[Event]]:
        with self._fanout.joined(frozenset(topics), capacity) as subscription:
            yield subscription

    async def close(self) -> None:
        self._fanout.close()
