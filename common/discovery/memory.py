"""The directory of one process: what is registered lives exactly as long as the process, so leases need no clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field

from common.discovery import Change
from common.errors import Stale


@dataclass(eq=False)
class MemoryRegistration:
    """Implements `common.discovery.Registration`."""

    directory: MemoryDirectory
    key: str
    displaced: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def held(self) -> bool:
        return self.directory.holders.get(self.key) is self

    async def update(self, value: bytes) -> None:
        if self.displaced.is_set():
            raise Stale(f"{self.key} was taken by another process", action="stop one of the two")
        self.directory.put(self.key, value, self)


@dataclass(eq=False)
class MemoryLeadership:
    """Implements `common.discovery.Leadership`. Never lost: there is nobody outside to take it."""

    term: int
    lost: asyncio.Event = field(default_factory=asyncio.Event)


class _Follower:
    """The pending changes of one watch: the newest of each key, so that a slow reader costs no more than the keys."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._pending: dict[str, bytes | None] = {}
        self._changed = asyncio.Event()

    def offer(self, key: str, value: bytes | None) -> None:
        if key.startswith(self.prefix):
            self._pending.pop(key, None)
            self._pending[key] = value
            self._changed.set()

    async def next(self) -> Change:
        while not self._pending:
            self._changed.clear()
            await self._changed.wait()
        key = next(iter(self._pending))
        return Change(key, self._pending.pop(key))


class MemoryDirectory:
    """What several `MemoryRegistry` of one process share."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.holders: dict[str, MemoryRegistration] = {}
        self.followers: set[_Follower] = set()
        self.candidates: dict[str, deque[asyncio.Event]] = {}
        self.terms = 0

    def put(self, key: str, value: bytes, holder: MemoryRegistration | None) -> None:
        former = self.holders.pop(key, None)
        if holder is not None:
            self.holders[key] = holder
        if former is not None and former is not holder:
            former.displaced.set()
        self.values[key] = value
        self._tell(key, value)

    def end(self, registration: MemoryRegistration, final_value: bytes | None) -> None:
        if not registration.held:
            return
        key = registration.key
        del self.holders[key]
        if final_value is not None:
            self.values[key] = final_value
        else:
            del self.values[key]
        self._tell(key, final_value)

    def _tell(self, key: str, value: bytes | None) -> None:
        for follower in self.followers:
            follower.offer(key, value)


class MemoryRegistry:
    """Implements the port `common.discovery.ServiceRegistry`."""

    def __init__(self, directory: MemoryDirectory | None = None) -> None:
        self._directory = directory or MemoryDirectory()

    @contextlib.asynccontextmanager
    async def register(
        self, key: str, value: bytes, ttl_seconds: float, *, final_value: bytes | None = None
    ) -> AsyncIterator[MemoryRegistration]:
        registration = MemoryRegistration(self._directory, key)
        self._directory.put(key, value, registration)
        try:
            yield registration
        finally:
            self._directory.end(registration, final_value)

    async def list(self, prefix: str) -> Mapping[str, bytes]:
        return {key: value for key, value in sorted(self._directory.values.items()) if key.startswith(prefix)}

    async def watch(self, prefix: str) -> AsyncGenerator[Change, None]:
        follower = _Follower(prefix)
        for key, value in self._directory.values.items():
            follower.offer(key, value)
        self._directory.followers.add(follower)
        try:
            while True:
                yield await follower.next()
        finally:
            self._directory.followers.discard(follower)

    @contextlib.asynccontextmanager
    async def lock(self, name: str, ttl_seconds: float) -> AsyncIterator[MemoryLeadership]:
        line = self._directory.candidates.setdefault(name, deque())
        turn = asyncio.Event()
        line.append(turn)
        try:
            if line[0] is not turn:
                await turn.wait()
            self._directory.terms += 1
            yield MemoryLeadership(self._directory.terms)
        finally:
            line.remove(turn)
            if line:
                line[0].set()

    async def close(self) -> None:
        """Registrations and locks end with their own contexts."""
