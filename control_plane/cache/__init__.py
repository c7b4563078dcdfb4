"""Port: values that may vanish at any moment and only save work.

Vocabulary: a key is a string of printable ASCII, a value is bytes, a time to live is in seconds. Losing the cache loses
nothing: every reader can make the value again. `increment` counts within a window (rate limits, failed logins).
Implementations answer within 200 ms or raise `Unavailable`, and callers carry on without. The proof is
tests/conformance/cache.py.
"""

from __future__ import annotations

from typing import Protocol


class Cache(Protocol):
    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: bytes, ttl_seconds: float) -> None: ...

    async def delete(self, key: str) -> None: ...

    async def increment(self, key: str, ttl_seconds: float) -> int:
        """Add one and return the new count; the window starts with the first increment and is not prolonged."""
        ...

    async def close(self) -> None: ...
