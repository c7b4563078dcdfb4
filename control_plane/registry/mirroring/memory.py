"""What is remembered for a while, each thing for as long as it says; bounded. In this process only."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from common.clock import Clock

K = TypeVar("K")
V = TypeVar("V")


class Expiring(Generic[K, V]):
    """At most `limit` entries; the one kept longest ago goes first."""

    def __init__(self, clock: Clock, limit: int) -> None:
        self._clock = clock
        self._limit = limit
        self._entries: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[1] <= self._clock.monotonic():
            del self._entries[key]
            return None
        return entry[0]

    def seconds_left(self, key: K) -> float:
        entry = self._entries.get(key)
        return max(0.0, entry[1] - self._clock.monotonic()) if entry is not None else 0.0

    def keep(self, key: K, value: V, seconds: float) -> None:
        self._entries.pop(key, None)
        self._entries[key] = (value, self._clock.monotonic() + seconds)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def forget(self, key: K) -> None:
        self._entries.pop(key, None)
