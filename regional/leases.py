"""Leases of pieces for the hosts of the IDC: a book for each content that is being spread, and waiting for work.

Invariant: only pieces that are verified and on disk are leased, so whoever has a lease reads at once; who finds nothing
waits here for the next piece that crosses the WAN, the longest waiting first. Books live in memory: after a restart the
hosts' questions say everything again. All bounded.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from common.bittorrent.metainfo import Metainfo
from common.clock import Clock
from common.digest import Digest
from common.spreading.exchange import Grant, Question
from common.spreading.leases import Budget, LeaseBook, Shape
from regional.model import ContentKey

# Longer and a host that cannot be reached any more would be waited for; shorter and idle hosts would ask all the time.
_WAIT_SECONDS = 2.0
# Somebody's lease may have run out, or a holder died: nothing arrives then that would wake anybody.
_LOOK_SECONDS = 0.5
_LOOKING_AT_ONCE = 32
_AGAIN_SECONDS = 0.05
# Members come and go, and limits have hours.
_BUDGET_SECONDS = 1.0
_MOST_BOOKS = 500
_MOST_WAITING = 5_000


@dataclass(eq=False)
class _Waiter:
    """looked_at: how much had arrived when it last found nothing."""

    looked_at: int
    called: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class _Desk:
    """budget_until: then the book's budget is asked for anew."""

    book: LeaseBook
    budget_until: float = 0.0
    arrivals: int = 0
    waiting: deque[_Waiter] = field(default_factory=deque)

    def call_next(self) -> None:
        """Of those who have not looked since the last arrival, whoever waits longest; it calls the next in turn."""
        for waiter in self.waiting:
            if waiter.looked_at < self.arrivals:
                waiter.looked_at = self.arrivals
                waiter.called.set()
                return


class LeaseDesks:
    """`budget`: what the IDC's links allow for that tenant and number of hosts."""

    def __init__(self, clock: Clock, budget: Callable[[str, int], Budget] = lambda _tenant, _hosts: Budget()) -> None:
        self._clock = clock
        self._budget = budget
        self._desks: OrderedDict[ContentKey, _Desk] = OrderedDict()
        self._by_digest: dict[Digest, set[ContentKey]] = {}

    def arrived(self, digest: Digest) -> None:
        """More of it may be read."""
        for key in self._by_digest.get(digest, ()):
            desk = self._desks[key]
            desk.arrivals += 1
            desk.call_next()

    async def ask(
        self,
        key: ContentKey,
        metainfo: Metainfo,
        holder: str,
        question: Question,
        readable: Callable[[], int | None],
        seeds: Callable[[], frozenset[str]],
    ) -> Grant:
        """A lease, at the latest after two seconds; none then means: ask again."""
        deadline = self._clock.monotonic() + _WAIT_SECONDS
        while True:
            desk = self._desk(key, metainfo)
            now = self._clock.monotonic()
            if now >= desk.budget_until:
                desk.book.budget = self._budget(key.tenant_id, len(desk.book.crowd.members))
                desk.budget_until = now + _BUDGET_SECONDS
            grant = desk.book.ask(holder, question, now, available=readable(), seeds=seeds())
            # Called or not: what this one did not take is the next one's.
            desk.call_next()
            if grant.run is not None:
                return grant
            if grant.seconds > _WAIT_SECONDS or now >= deadline or len(desk.waiting) >= _MOST_WAITING:
                return Grant(None, max(grant.seconds - _WAIT_SECONDS, _AGAIN_SECONDS))
            look = _LOOK_SECONDS * (1 + len(desk.waiting) // _LOOKING_AT_ONCE)
            await _wait(desk, min(deadline - now, look))

    def _desk(self, key: ContentKey, metainfo: Metainfo) -> _Desk:
        desk = self._desks.get(key)
        shape = Shape(metainfo.length, metainfo.piece_length)
        if desk is None or desk.book.shape != shape:
            desk = self._desks[key] = _Desk(LeaseBook(shape, Budget()))
            self._by_digest.setdefault(key.digest, set()).add(key)
            while len(self._desks) > _MOST_BOOKS:
                self._drop(next(iter(self._desks)))
        self._desks.move_to_end(key)
        return desk

    def _drop(self, key: ContentKey) -> None:
        del self._desks[key]
        keys = self._by_digest[key.digest]
        keys.discard(key)
        if not keys:
            del self._by_digest[key.digest]


async def _wait(desk: _Desk, seconds: float) -> None:
    waiter = _Waiter(desk.arrivals)
    desk.waiting.append(waiter)
    try:
        async with asyncio.timeout(seconds):
            await waiter.called.wait()
    except TimeoutError:
        return
    finally:
        desk.waiting.remove(waiter)
