"""One replica fetches a blob while the others wait until it is stored: a lease in the cache.

Invariants: nobody waits longer than `_PATIENCE_SECONDS` for another replica, nor longer than the lease for one that
died, then it fetches itself. Without a cache everybody fetches: twice from upstream is a waste, never an error, as a
blob is stored once however many bring it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from common.backoff import Backoff
from common.clock import Clock
from common.errors import Unavailable
from control_plane.cache import Cache

_LEASE_SECONDS = 6.0
# A client that gets no byte for this long is still there (docker, containerd and skopeo wait at least 30 s).
_PATIENCE_SECONDS = 12.0
_FIRST_LOOK_SECONDS, _LONGEST_LOOK_SECONDS = 0.05, 0.5
log = structlog.get_logger()


class Turns:
    """`chance` in [0, 1) spreads the looks of those who wait."""

    def __init__(self, cache: Cache, clock: Clock, chance: Callable[[], float]) -> None:
        self._cache = cache
        self._clock = clock
        self._chance = chance

    @contextlib.asynccontextmanager
    async def turn(self, what: str, stored: Callable[[], Awaitable[bool]]) -> AsyncIterator[bool]:
        """Whether to fetch it: True keeps other replicas waiting until this is left, False means that one of them has
        stored it meanwhile. Raises what `stored` raises.
        """
        key = f"mirroring/turn/1/{what}"
        if not await self._won(key):
            log.info("another replica fetches it", what=what)
            mine = await self._mine_in_the_end(key, stored)
            if mine is None:
                yield False
                return
            if not mine:
                yield True
                return
        keeping = asyncio.ensure_future(self._keep(key))
        try:
            yield True
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            with contextlib.suppress(Unavailable):
                await self._cache.delete(key)

    async def _won(self, key: str) -> bool:
        """Also where there is no cache to ask."""
        try:
            return await self._cache.increment(key, _LEASE_SECONDS) == 1
        except Unavailable:
            return True

    async def _mine_in_the_end(self, key: str, stored: Callable[[], Awaitable[bool]]) -> bool | None:
        """None: it is stored; True: the turn is ours now; False: somebody has it still, and we wait no longer."""
        backoff = Backoff(self._chance, _FIRST_LOOK_SECONDS, _LONGEST_LOOK_SECONDS)
        end = self._clock.monotonic() + _PATIENCE_SECONDS
        while self._clock.monotonic() < end:
            await self._clock.sleep(backoff.next_delay())
            # In this order: whoever gives its turn back has stored it before.
            free = await self._is_free(key)
            if await stored():
                return None
            if free and await self._won(key):
                return True
        return False

    async def _is_free(self, key: str) -> bool:
        try:
            return await self._cache.get(key) is None
        except Unavailable:
            return True

    async def _keep(self, key: str) -> None:
        while True:
            await self._clock.sleep(_LEASE_SECONDS / 3)
            with contextlib.suppress(Unavailable):
                await self._cache.set(key, b"1", _LEASE_SECONDS)
