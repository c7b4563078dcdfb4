"""Leases of pieces for IDCs without a living regional: a book for each IDC, tenant and content.

Each byte crosses the WAN of such an IDC once: few of its hosts are gates and fetch disjoint pieces from us, everybody
else gets them from the gates, whom this book introduces where no tracker is left. The book lies in the cache, so that
all replicas keep one, under a lock of a moment.

Invariant: at worst (the cache away or emptied) each replica keeps a book of its own, and as many copies cross the WAN
as there are replicas; hosts say what they hold with every question, so nothing else is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import structlog

from common.clock import Clock
from common.content_token import ContentClaim
from common.digest import Digest
from common.errors import Unavailable
from common.spreading.exchange import Grant, Question
from common.spreading.leases import Budget, LeaseBook, Shape
from common.spreading.model import UNKNOWN_GATES
from common.spreading.records import LeaseRecordInvalid, decode_book, encode_book
from control_plane.cache import Cache

log = structlog.get_logger()

_BOOK_SECONDS = 900.0
# Two questions to the cache and a millisecond of thought; whoever died in between holds everybody up for so long.
_LOCK_SECONDS = 2.0
_LOCK_LOOK_SECONDS = 0.02
_LOCK_PATIENCE_SECONDS = 1.0
_BUSY_SECONDS = 0.5
_PEERS = 30
_MOST_OWN_BOOKS = 1_000


async def _unknown_gates(_idc: str) -> int:
    return UNKNOWN_GATES


class LeaseBooks:
    """`gates`: how many hosts of the IDC of that name are served."""

    def __init__(
        self,
        cache: Cache,
        clock: Clock,
        random: Callable[[], float],
        gates: Callable[[str], Awaitable[int]] = _unknown_gates,
    ) -> None:
        self._gates = gates
        self._cache = cache
        self._clock = clock
        self._random = random
        self._own: OrderedDict[str, LeaseBook] = OrderedDict()
        self._turns: dict[str, asyncio.Lock] = {}

    async def ask(self, claim: ContentClaim, digest: Digest, shape: Shape, question: Question) -> Grant:
        """What the bearer fetches from us next. Answers within about a second."""
        key = f"lease:{claim.idc}:{claim.tenant_id}:{digest}"
        # Strict: what is given twice crosses the WAN twice.
        budget = Budget(strict=True, gates=await self._gates(claim.idc))
        async with self._turn(key):
            try:
                async with self._locked(key) as locked:
                    if not locked:
                        return Grant(None, _BUSY_SECONDS * (1 + self._random()))
                    book = await self._load(key, shape, budget)
                    grant = self._asked(book, claim.bearer, question)
                    await self._cache.set(key, encode_book(book), _BOOK_SECONDS)
                    return grant
            except Unavailable as failure:
                log.warning("leases are this replica's own", digest=str(digest), error=str(failure))
                return self._asked(self._own_book(key, shape, budget), claim.bearer, question)

    def _asked(self, book: LeaseBook, holder: str, question: Question) -> Grant:
        # Wall time: the replicas' clocks agree to a fraction of the shortest lease.
        grant = book.ask(holder, question, self._clock.now().timestamp())
        return replace(grant, peers=book.crowd.peers_for(holder, _PEERS))

    async def _load(self, key: str, shape: Shape, budget: Budget) -> LeaseBook:
        encoded = await self._cache.get(key)
        if encoded is not None:
            try:
                book = decode_book(encoded, budget)
                if book.shape == shape:
                    return book
            except LeaseRecordInvalid as failure:
                log.warning("lease book begins anew", key=key, error=str(failure))
        return LeaseBook(shape, budget)

    def _own_book(self, key: str, shape: Shape, budget: Budget) -> LeaseBook:
        book = self._own.get(key)
        if book is None or book.shape != shape:
            book = self._own[key] = LeaseBook(shape, budget)
        book.budget = budget
        self._own.move_to_end(key)
        while len(self._own) > _MOST_OWN_BOOKS:
            self._own.popitem(last=False)
        return book

    @contextlib.asynccontextmanager
    async def _locked(self, key: str) -> AsyncIterator[bool]:
        """Among the replicas; false if another one kept it for too long."""
        lock, deadline = f"{key}:lock", self._clock.monotonic() + _LOCK_PATIENCE_SECONDS
        while await self._cache.increment(lock, _LOCK_SECONDS) != 1:
            if self._clock.monotonic() >= deadline:
                yield False
                return
            await self._clock.sleep(_LOCK_LOOK_SECONDS * (0.5 + self._random()))
        try:
            yield True
        finally:
            with contextlib.suppress(Unavailable):
                await self._cache.delete(lock)

    @contextlib.asynccontextmanager
    async def _turn(self, key: str) -> AsyncIterator[None]:
        """Within this process, so that its requests do not fight for the shared lock."""
        turn = self._turns.setdefault(key, asyncio.Lock())
        try:
            async with turn:
                yield
        finally:
            if not turn.locked():
                self._turns.pop(key, None)
