"""What leaves this host's cache, and when: least recently used first, in the background above the high water mark, and
at once when a fetch finds no room.

Invariants: nothing that is assigned (running, held or preheated) or being fetched leaves, and nothing at all before a
full set of assignments was received. A content that leaves loses its name: who reads it at that moment, the engine from
the mirror or the control plane that lost its own bytes, reads on to the end of the open file; peers that are being
given it lose the connection and take the rest elsewhere, for its swarm is left first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import structlog

from agent.cache import ContentCache, disk_full
from common.backoff import jittered
from common.clock import Clock
from common.digest import Digest
from common.errors import Failure

log = structlog.get_logger()

_PERIOD_SECONDS = 5.0


class Eviction:
    """`keep`: what must stay, asked anew before each content leaves; None while that is not known. `leave`: stop giving
    a content to others.
    """

    def __init__(
        self,
        cache: ContentCache,
        keep: Callable[[], Collection[Digest] | None],
        leave: Callable[[Digest], Awaitable[None]],
    ) -> None:
        self._cache = cache
        self._keep = keep
        self._leave = leave
        self._turn = asyncio.Lock()
        self.evicted_bytes = 0

    async def run(self, clock: Clock, random: Callable[[], float]) -> None:
        """Until cancelled."""
        while True:
            await clock.sleep(jittered(_PERIOD_SECONDS, 0.2, random))
            try:
                await self.sweep()
            except (Failure, OSError, TimeoutError) as error:
                log.warning("contents not evicted", error=str(error))

    async def sweep(self) -> None:
        """Down to the low mark if the cache is above the high one, or the disk has less free than is to stay free."""
        surplus = self._surplus()
        if surplus:
            goal = self._cache.used_bytes - surplus
            await self._free(lambda: self._cache.used_bytes <= goal)

    async def make_room(self, needed_bytes: int) -> None:
        """Raises `DiskFull` when evicting all that may leave is not enough."""
        await self._free(lambda: not self._cache.lacking_bytes(needed_bytes))
        if self._cache.lacking_bytes(needed_bytes):
            raise disk_full(self._cache.root, needed_bytes)

    async def empty(self) -> int:
        """Everything that may leave, leaves; how many bytes that were."""
        before = self.evicted_bytes
        await self._free(lambda: False)
        return self.evicted_bytes - before

    async def discard(self, digest: Digest) -> None:
        """A content that is damaged leaves, wanted or not."""
        async with self._turn:
            await self._leave(digest)
            await self._cache.drop(digest)

    def _surplus(self) -> int:
        keep = self._keep()
        if keep is None:
            return 0
        pinned = sum(size for _, _, size in self._cache.held_files(keep))
        return max(self._cache.marks.surplus(self._cache.used_bytes, pinned), self._cache.lacking_bytes(0))

    async def _free(self, enough: Callable[[], bool]) -> None:
        if enough():
            return
        async with self._turn:
            for digest in self._cache.evictable(self._keep() or ()):
                if enough():
                    return
                if not self._may_leave(digest):
                    continue
                await self._leave(digest)
                # It may have been assigned while its swarm was left.
                if self._may_leave(digest):
                    before = self._cache.used_bytes
                    await self._cache.drop(digest)
                    self.evicted_bytes += before - self._cache.used_bytes
                    log.info("content evicted", digest=str(digest), bytes=before - self._cache.used_bytes)

    def _may_leave(self, digest: Digest) -> bool:
        keep = self._keep()
        return keep is not None and digest not in keep
