"""Which contents a repository has, by the centre's word, and our right to fetch each of them.

Invariant: a content is opened for an asker only by a link that the centre confirmed for that very repository; while the
centre answers, a confirmation counts for `FRESH_SECONDS`, while it does not, as long as `Answers` keeps it. What is not
known to be linked is asked, whether it is held or not, so nobody learns from us what is held.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from common.clock import Clock
from common.digest import Digest
from common.errors import Failure, Unavailable
from regional.pieces import Spawn
from regional.v2.answers import Answers, Link
from regional.v2.gate import Asker
from regional.v2.rights import MOST_DIGESTS, PullRights

log = structlog.get_logger()

# A token of the centre's counts for fifteen minutes there; what was taken out of a repository is seen here sooner.
FRESH_SECONDS = 300.0
_MOST_TOKENS = 10_000
_AWAY_SECONDS = 3.0
_MOST_LEARNING = 64


@dataclass(frozen=True, slots=True)
class Opened:
    """`token`: our right to fetch it; empty after a restart while the centre is away. `stale`: seconds since the centre
    last confirmed the link, if it could not be asked now.
    """

    link: Link
    token: str
    stale: float | None = None


class Links:
    def __init__(self, rights: PullRights, answers: Answers, clock: Clock, spawn: Spawn) -> None:
        self._rights = rights
        self._clock = clock
        self._away_until = float("-inf")
        self._answers = answers
        self._spawn = spawn
        self._tokens: OrderedDict[tuple[str, Digest], str] = OrderedDict()
        self._asking: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._learning = 0

    async def find(self, asker: Asker, repository: str, digest: Digest, *, held: bool) -> Opened | None:
        """None: the repository has no such content that we could fetch. Raises what the centre refuses with, and
        `Unavailable` if it is away and never confirmed the link.
        """
        known = await self._known(asker, repository, digest)
        if self._good(known, held=held):
            return known
        lock = self._asking.setdefault(repository, asyncio.Lock())
        async with lock:
            # Whoever held the lock may have asked for the whole image.
            known = await self._known(asker, repository, digest)
            if self._good(known, held=held):
                return known
            try:
                await self._ask(asker, repository, [digest])
            except Unavailable:
                if known is None:
                    raise
                return Opened(known.link, known.token, known.link.age)
        return await self._known(asker, repository, digest)

    def learn(self, asker: Asker, repository: str, digests: Sequence[Digest]) -> None:
        """An image was asked for: its contents will be, and perhaps when the centre is away. Waits for nothing."""
        if digests and self._learning < _MOST_LEARNING:
            self._learning += 1
            self._spawn(f"rights {repository}", self._learn(asker, repository, digests[:MOST_DIGESTS]))

    async def public(self, repository: str, *, fresh: bool) -> bool:
        """Whether the centre said that everybody may pull it."""
        age = await asyncio.to_thread(self._answers.public_age, repository)
        return age is not None and (not fresh or age < FRESH_SECONDS)

    async def _learn(self, asker: Asker, repository: str, digests: Sequence[Digest]) -> None:
        lock = self._asking.setdefault(repository, asyncio.Lock())
        try:
            async with lock:
                known = await asyncio.to_thread(self._answers.links, repository, digests)
                lacking = [
                    digest
                    for digest in digests
                    if (repository, digest) not in self._tokens
                    or digest not in known
                    or known[digest].age >= FRESH_SECONDS / 2
                ]
                if lacking:
                    await self._ask(asker, repository, lacking)
        except Failure as failure:
            log.info("rights not learned", repository=repository, error=str(failure))
        finally:
            self._learning -= 1

    async def _known(self, asker: Asker, repository: str, digest: Digest) -> Opened | None:
        if asker.claim is None and not await self.public(repository, fresh=False):
            return None
        link = (await asyncio.to_thread(self._answers.links, repository, [digest])).get(digest)
        return None if link is None else Opened(link, self._tokens.get((repository, digest), ""))

    def _good(self, known: Opened | None, *, held: bool) -> bool:
        return known is not None and known.link.age < FRESH_SECONDS and (held or bool(known.token))

    async def _ask(self, asker: Asker, repository: str, digests: Sequence[Digest]) -> None:
        if self._clock.monotonic() < self._away_until:
            raise Unavailable("the centre did not answer a moment ago", retry_after_seconds=_AWAY_SECONDS)
        try:
            granted = await self._rights.ask(asker.token, repository, digests)
        except Unavailable:
            # Askers of one repository take turns: without this each of them would wait for a centre that hangs.
            self._away_until = self._clock.monotonic() + _AWAY_SECONDS
            raise
        for digest, token in granted.tokens.items():
            self._tokens[repository, digest] = token
            self._tokens.move_to_end((repository, digest))
        while len(self._tokens) > _MOST_TOKENS:
            self._tokens.popitem(last=False)
        await asyncio.to_thread(
            self._answers.keep_links,
            repository,
            granted.tenant_id,
            digests,
            granted.sizes,
            public=granted.public,
        )
