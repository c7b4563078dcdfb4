"""The two directions of a regional's lines: from the centre, and to the hosts; limits of the centre, by the hour of the
day, and lower effort that gives way.

A content is of lower effort while every order for it is, and no host has asked for it lately without saying that nobody
waits. Invariant: what a host waits for is never slowed because a preheat came first.

Marked as lower effort (RFC 8622): what is sent over HTTP to a host that says so, and BitTorrent while nothing else is
in the swarms. Not marked: what the centre sends, for its server does not show us its sockets.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import datetime

from aiohttp import web

from common.bittorrent import PeerSession, TorrentHandle
from common.bittorrent.governor import ROUND_SECONDS, Governed, Governor
from common.clock import Clock
from common.digest import Digest
from common.effort import EFFORT_HEADER, LOWER_EFFORT, LOWER_EFFORT_TOS
from common.limits import LimitRule, Link, rates_at
from common.links import Line, Pace
from common.spreading.leases import Budget
from common.spreading.model import Host, lease_copies
from regional.model import ContentKey, Effort
from regional.sending import PACE

# A host that waits asks again and again; one that has what it wanted is silent.
_ASKED_SECONDS = 30.0
_MOST_ASKED = 10_000


class RegionalLinks:
    def __init__(self, clock: Clock) -> None:
        self.wan, self.up = Line(clock), Line(clock)
        self.rules: tuple[LimitRule, ...] = ()
        self._clock = clock
        self._orders: dict[Digest, dict[str, Effort]] = {}
        self._asked: dict[Digest, float] = {}

    def ordered(self, key: ContentKey, effort: Effort | None) -> None:
        """None: not any more."""
        efforts = self._orders.setdefault(key.digest, {})
        if effort is None:
            efforts.pop(key.tenant_id, None)
        else:
            efforts[key.tenant_id] = effort
        if not efforts:
            del self._orders[key.digest]

    def asked(self, digest: Digest) -> None:
        """A host waits for it."""
        self._asked.pop(digest, None)
        self._asked[digest] = self._clock.monotonic() + _ASKED_SECONDS
        if len(self._asked) > _MOST_ASKED:
            del self._asked[next(iter(self._asked))]

    def heard(self, request: web.Request, digest: Digest) -> bool:
        """Whether the host says that nobody waits; if it does not, somebody does."""
        lower = request.headers.get(EFFORT_HEADER) == LOWER_EFFORT
        if not lower:
            self.asked(digest)
        return lower

    def lower(self, digest: Digest) -> bool:
        efforts = self._orders.get(digest)
        if not efforts or Effort.ORDINARY in efforts.values():
            return False
        return self._clock.monotonic() >= self._asked.get(digest, 0.0)

    def paused(self, digest: Digest) -> bool:
        """Nobody wants it to be fetched now."""
        efforts = self._orders.get(digest, {})
        return self.lower(digest) and all(effort is Effort.PAUSED for effort in efforts.values())

    @contextmanager
    def fetching(self, digest: Digest) -> Iterator[None]:
        with self.wan.flow(lambda: self.lower(digest)):
            yield

    async def paced(self, key: ContentKey, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """`chunks` of a content from the centre, as fast as its line allows."""
        async with aclosing(chunks):
            async for chunk in chunks:
                await self.wan.take(len(chunk), key.tenant_id, lower=self.lower(key.digest))
                yield chunk

    @contextmanager
    def serving(self, request: web.Request, key: ContentKey) -> Iterator[None]:
        """An answer of content bytes to a host: paced, and marked when nobody waits."""
        lower = self.heard(request, key.digest)
        _mark(request, LOWER_EFFORT_TOS if lower else 0)
        request[PACE] = Pace(self.up, key.tenant_id, lambda: lower)
        with self.up.flow(lambda: lower):
            yield

    @contextmanager
    def passing(self, request: web.Request) -> Iterator[None]:
        """An answer of the centre's that somebody waits for, over both lines."""
        _mark(request, 0)
        request[PACE] = Pace(self.up, "", lambda: False)
        with self.wan.flow(), self.up.flow():
            yield

    def lease_budget(self, tenant_id: str, members: int) -> Budget:
        """How many copies the limits leave time for when so many hosts want a content of the tenant."""
        now = self._clock.now()
        up, host_up, host_down = (
            self._limit(link, tenant_id, now) for link in (Link.REGIONAL_UP, Link.HOST_UP, Link.HOST_DOWN)
        )
        return Budget(copies=lease_copies(up, Host(host_up, host_down), members))

    def _limit(self, link: Link, tenant_id: str, now: datetime) -> float | None:
        rates = rates_at(self.rules, link, now)
        return min((float(rate) for rate in (rates.whole, rates.tenant(tenant_id)) if rate), default=None)

    async def run(
        self, session: PeerSession, torrents: Callable[[], Sequence[tuple[ContentKey, TorrentHandle]]]
    ) -> None:
        """Until cancelled. `torrents`: those in `session`."""
        governor = Governor(
            session,
            lambda: [Governed(handle, key.tenant_id, self.lower(key.digest)) for key, handle in torrents()],
            # BitTorrent brings a regional nothing: its torrents only give.
            Line(self._clock),
            self.up,
        )
        while True:
            now = self._clock.now()
            self.wan.set_rates(rates_at(self.rules, Link.WAN_DOWN, now))
            self.up.set_rates(rates_at(self.rules, Link.REGIONAL_UP, now))
            governor.round()
            await self._clock.sleep(ROUND_SECONDS)


def _mark(request: web.Request, traffic_class: int) -> None:
    """Each time, because a connection serves one request after the other."""
    connection = request.get_extra_info("socket")
    if connection is None:
        return
    with contextlib.suppress(OSError):
        if connection.family == socket.AF_INET6:
            connection.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, traffic_class)
        else:
            connection.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, traffic_class)
