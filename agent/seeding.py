"""What this host holds, it gives: every assigned, verified content that has a swarm is seeded in it, also after a
restart and when the bytes came by another way; what is no longer assigned is left.

Invariant: only contents of current assignments are seeded, with the newest tokens, and nothing is released before a
full set of assignments was received.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from agent.cache import ContentCache
from agent.desired import DesiredBook
from agent.fetch import Fetcher
from agent.ledger import ContentKey
from agent.model import Content
from agent.swarms import Swarms
from common.backoff import jittered
from common.clock import Clock
from common.errors import Failure

log = structlog.get_logger()

_PERIOD_SECONDS = 10.0
# A content whose metainfo could not be had is asked for again this much later, not at every round.
_ASK_AGAIN_SECONDS = 120.0


class Seeding:
    def __init__(
        self,
        book: DesiredBook,
        cache: ContentCache,
        swarms: Swarms,
        fetcher: Fetcher,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._book = book
        self._cache = cache
        self._swarms = swarms
        self._fetcher = fetcher
        self._clock = clock
        self._random = random
        self._ask_again: dict[ContentKey, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.round()
            await self._clock.sleep(jittered(_PERIOD_SECONDS, 0.2, self._random))

    async def round(self) -> None:
        assigned = self._book.assigned()
        for key, content in assigned.items():
            try:
                await self._swarms.announce_to(key, self._fetcher.trackers(key))
                await self._give(key, content)
            except (Failure, OSError, TimeoutError) as error:
                log.warning("content not seeded", digest=str(key[1]), tenant=key[0], error=str(error))
                self._ask_again[key] = self._clock.monotonic() + jittered(_ASK_AGAIN_SECONDS, 0.5, self._random)
        if self._book.current.known:
            await self._release(assigned)

    async def _give(self, key: ContentKey, content: Content) -> None:
        if content.size_bytes < self._book.swarm_bytes or self._swarms.member(key) is not None:
            return
        if content.digest not in self._cache.held or self._clock.monotonic() < self._ask_again.get(key, 0.0):
            return
        metainfo = self._swarms.metainfo(key)
        if metainfo is None and self._book.endpoints:
            metainfo = await self._fetcher.find_metainfo(content, key)
        path = self._cache.find(content.digest)
        if metainfo is None or path is None:
            self._ask_again[key] = self._clock.monotonic() + jittered(_ASK_AGAIN_SECONDS, 0.5, self._random)
            return
        await self._swarms.seed(key, metainfo, path, self._fetcher.trackers(key))
        log.info("content seeded", digest=str(key[1]), tenant=key[0])

    async def _release(self, assigned: dict[ContentKey, Content]) -> None:
        for key in self._swarms.known() - assigned.keys():
            log.info("swarm left", digest=str(key[1]), tenant=key[0])
            await self._swarms.leave(key)
        await self._cache.forget_partials({digest for _, digest in assigned})
        self._ask_again = {key: moment for key, moment in self._ask_again.items() if key in assigned}
