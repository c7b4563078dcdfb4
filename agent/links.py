"""The two directions of this host's line, shared by its BitTorrent peer and its HTTP fetches: limits of the centre, by
the hour of the day, and lower effort that gives way.

Not limited: the mirror, which is on loopback, and what goes to the control plane besides contents.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agent.content_http import ContentHttp
from agent.desired import DesiredBook
from agent.ledger import ContentKey
from agent.model import Effort
from agent.swarms import Swarms
from common.bittorrent import PeerSession
from common.bittorrent.governor import ROUND_SECONDS, Governed, Governor
from common.clock import Clock
from common.limits import Link, rates_at
from common.links import Line, Pace


class HostLinks:
    def __init__(self, session: PeerSession, swarms: Swarms, book: DesiredBook, clock: Clock) -> None:
        self.down, self.up = Line(clock), Line(clock)
        self._swarms = swarms
        self._book = book
        self._clock = clock
        self._governor = Governor(session, self._torrents, self.down, self.up)

    def lower(self, key: ContentKey) -> bool:
        return self._book.effort(*key) is not Effort.ORDINARY

    @contextmanager
    def flow(self, key: ContentKey) -> Iterator[None]:
        """Somebody wants this content over our line."""
        with self.down.flow(lambda: self.lower(key)):
            yield

    def paced(self, http: ContentHttp, key: ContentKey) -> ContentHttp:
        pace = Pace(self.down, key[0], lambda: self.lower(key))
        return http.paced(pace.take, pace.lower)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.round()
            await self._clock.sleep(ROUND_SECONDS)

    async def round(self) -> None:
        now = self._clock.now()
        self.down.set_rates(rates_at(self._book.limits, Link.HOST_DOWN, now))
        self.up.set_rates(rates_at(self._book.limits, Link.HOST_UP, now))
        self._governor.round()
        for key, handle in self._swarms.torrents():
            # A torrent goes on by itself when its fetch has been given up.
            if self._book.effort(*key) is Effort.PAUSED and not handle.status().complete:
                await self._swarms.rest(key)

    def _torrents(self) -> list[Governed]:
        return [Governed(handle, key[0], self.lower(key)) for key, handle in self._swarms.torrents()]
