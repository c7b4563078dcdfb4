"""What was read a moment ago, in memory: bounded, short-lived, and never older than a deletion made by this process.

Holds only immutable things (a manifest by digest, that a repository links a blob), so the one way to be wrong is to
show what was deleted. A deletion in this process is seen at once: `forget` also disowns reads that began before it. One
in another replica is seen after `ttl_seconds`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from common.clock import Clock

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[V]):
    value: V
    weight: int
    expires_at: float


class Recent(Generic[K, V]):
    """`limit` bounds the sum of the weights; the entry used longest ago goes first."""

    def __init__(self, clock: Clock, limit: int, ttl_seconds: float = 5.0) -> None:
        self._clock = clock
        self._limit = limit
        self._ttl_seconds = ttl_seconds
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._weight = 0
        self._forgotten = 0

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_at <= self._clock.monotonic():
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry.value

    def begin(self) -> int:
        """Call before reading from the database; give the result to `keep`."""
        return self._forgotten

    def keep(self, key: K, value: V, begun: int, weight: int = 1) -> None:
        if begun != self._forgotten or weight > self._limit:
            return
        self._remove(key)
        self._entries[key] = _Entry(value, weight, self._clock.monotonic() + self._ttl_seconds)
        self._weight += weight
        while self._weight > self._limit:
            self._remove(next(iter(self._entries)))

    def forget(self, key: K) -> None:
        """Call after the deletion was committed."""
        self._forgotten += 1
        self._remove(key)

    def _remove(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._weight -= entry.weight
