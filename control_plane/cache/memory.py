"""The cache of one process: a bounded dictionary that forgets the oldest entries first.

Invariant: never more than `capacity` entries, so that a scan of many keys cannot eat the memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.clock import Clock


@dataclass(slots=True)
class _Entry:
    value: bytes
    expires_at: float


class MemoryCache:
    """Implements the port `control_plane.cache.Cache`."""

    def __init__(self, clock: Clock, capacity: int = 50_000) -> None:
        self._clock = clock
        self._capacity = capacity
        self._entries: dict[str, _Entry] = {}  # in order of writing

    async def get(self, key: str) -> bytes | None:
        entry = self._live(key)
        return entry.value if entry else None

    async def set(self, key: str, value: bytes, ttl_seconds: float) -> None:
        self._put(key, _Entry(value, self._clock.monotonic() + ttl_seconds))

    async def delete(self, key: str) -> None:
        self._entries.pop(key, None)

    async def increment(self, key: str, ttl_seconds: float) -> int:
        entry = self._live(key)
        if entry is None:
            self._put(key, _Entry(b"1", self._clock.monotonic() + ttl_seconds))
            return 1
        count = int(entry.value) + 1
        entry.value = b"%d" % count
        return count

    async def close(self) -> None:
        self._entries.clear()

    def _live(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None and entry.expires_at <= self._clock.monotonic():
            del self._entries[key]
            return None
        return entry

    def _put(self, key: str, entry: _Entry) -> None:
        self._entries.pop(key, None)
        while len(self._entries) >= self._capacity:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = entry
