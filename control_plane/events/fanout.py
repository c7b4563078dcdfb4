"""The subscriptions of one process: every implementation of the bus hands its events to them here.

Invariant: a reader sees every event since it subscribed, in order, or an `Overrun`; never a gap in silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator

from control_plane.events import Event, Overrun


class Subscription:
    """An endless iterator of events; ended by `Overrun` or by the closing of the bus."""

    def __init__(self, topics: frozenset[str], capacity: int) -> None:
        self.topics = topics
        self._capacity = capacity
        self._waiting: deque[Event] = deque()
        self._changed = asyncio.Event()
        self._missed: str | None = None
        self._closed = False

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while True:
            if self._missed is not None:
                raise Overrun(f"events were missed: {self._missed}", action="subscribe again and read the state anew")
            if self._waiting:
                return self._waiting.popleft()
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()

    def offer(self, event: Event) -> None:
        if len(self._waiting) >= self._capacity:
            self.interrupt(f"the reader was {self._capacity} events behind")
        elif self._missed is None:
            self._waiting.append(event)
            self._changed.set()

    def interrupt(self, reason: str) -> None:
        self._missed = reason
        self._waiting.clear()  # the reader must read the state anew in any case
        self._changed.set()

    def close(self) -> None:
        self._closed = True
        self._changed.set()


class Fanout:
    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()

    @contextlib.contextmanager
    def joined(self, topics: frozenset[str], capacity: int) -> Iterator[Subscription]:
        subscription = Subscription(topics, capacity)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def listens(self, topic: str) -> bool:
        """Whether anybody would take an event of that topic: what nobody hears need not be made."""
        return any(topic in subscription.topics for subscription in self._subscriptions)

    def deliver(self, event: Event) -> None:
        for subscription in self._subscriptions:
            if event.topic in subscription.topics:
                subscription.offer(event)

    def interrupt(self, reason: str) -> None:
        """Every present subscription may have missed something."""
        for subscription in self._subscriptions:
            subscription.interrupt(reason)

    def close(self) -> None:
        for subscription in self._subscriptions:
            subscription.close()


def encode(event: Event) -> bytes:
    """Raises `TypeError` for a payload that is not JSON."""
    return json.dumps(event.payload, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def decode(topic: str, data: bytes) -> Event:
    return Event(topic, json.loads(data))
