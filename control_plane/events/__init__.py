"""Port: announcements between the parts of the control plane, across replicas.

Vocabulary: an `Event` is a topic and a JSON payload. `publish` hands it to every subscription that exists at that
moment, in this process and in others; there is no history. What must not be missed is a row somewhere, and its owner
sweeps; an event only makes it sooner.

Duties: `publish` and entering a subscription raise `Unavailable` within two seconds if the bus is away. A subscription
is bounded: when its reader falls behind by `capacity` events, or when the connection to the bus was lost and events may
have been missed, it is ended with `Overrun`, and the reader subscribes again and resyncs from the database. Closing the
bus ends its subscriptions without an error. The proof is tests/conformance/event_bus.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from common.errors import Unavailable


class Overrun(Unavailable):
    """The reader of a subscription fell too far behind and missed events."""

    code = "events_overrun"


@dataclass(frozen=True, slots=True)
class Event:
    topic: str
    payload: Mapping[str, Any]


class EventBus(Protocol):
    async def publish(self, event: Event) -> None: ...

    def subscribe(self, *topics: str, capacity: int = 1000) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Events of the given topics from entering the context on. Several readers each get every event."""
        ...

    async def close(self) -> None: ...
