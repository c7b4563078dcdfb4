"""A content over plain HTTP, for those that have no swarm: regional by regional, then the centre.

Invariants: what is on disk is never fetched again (a partial file survives restarts and is continued by range); bytes
count only after the whole digest matched, and bytes that did not are discarded with their source's name in the log;
every source gets a bounded number of fruitless tries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import structlog

from agent.cache import ContentCache, full_disk_is_a_failure, write_all
from agent.content_http import (
    BodyBroken,
    ContentAbsent,
    ContentHttp,
    Source,
    SourceAway,
    SourceBusy,
    SourceFetching,
    TokenRejected,
)
from agent.ledger import ContentKey, Ledger
from agent.model import Content
from common.backoff import Backoff
from common.clock import Clock
from common.digest import DigestMismatch
from common.errors import Failure, Unauthenticated, Unavailable

log = structlog.get_logger()

_FRUITLESS_TRIES = 3
_FALSE_TRIES = 2
# A regional that says the bytes are on their way is worth waiting for: going to the centre would carry them over the
# WAN once more. Thirty seconds each (its own patience), so this is ten minutes without a byte.
_FETCHING_TRIES = 20
# What is smaller goes through memory: no thread for each chunk, no second reading for the hash.
_IN_MEMORY_BYTES = 4 << 20


class FetchFailed(Unavailable):
    """No source could give the content; every reason is in the detail."""

    code = "fetch_failed"


class RightExpired(Unauthenticated):
    """Every source rejected the content token."""

    code = "content_token_rejected"


@dataclass(frozen=True)
class WholeDownload:
    """`sources`, `token`: asked anew for each try, because both change while a fetch is going on."""

    cache: ContentCache
    http: ContentHttp
    ledger: Ledger
    clock: Clock
    random: Callable[[], float]
    sources: Callable[[], Sequence[Source]]
    token: Callable[[ContentKey], str]

    async def run(self, content: Content, key: ContentKey) -> None:
        """Returns when the content is in the cache. Raises `FetchFailed`, `RightExpired` or `DiskFull`."""
        reasons: list[Failure] = []
        for source in self.sources():
            failure = await self._from(source, content, key)
            if failure is None:
                return
            log.warning("source gave up on", source=str(source), digest=str(content.digest), error=str(failure))
            reasons.append(failure)
        raise summary(content, reasons)

    async def _from(self, source: Source, content: Content, key: ContentKey) -> Failure | None:
        """None once it is in the cache; else why this source cannot help."""
        backoff = Backoff(self.random, initial_seconds=0.5, cap_seconds=5.0)
        fruitless, fetching, false = 0, 0, 0
        while True:
            before = _size(self.cache.partial(content.digest))
            try:
                if 0 < content.size_bytes <= _IN_MEMORY_BYTES and before == 0:
                    await self._at_once(source, content, key)
                else:
                    await self._continue(source, content, key)
                    await self._publish(content)
                return None
            except DigestMismatch as failure:
                false += 1
                # When part of it was older or from elsewhere, this source is not to blame before it sent all of it.
                if before == 0 or false >= _FALSE_TRIES:
                    return failure
            except (TokenRejected, ContentAbsent) as failure:
                return failure
            except SourceFetching as failure:
                fetching += 1
                if fetching >= _FETCHING_TRIES:
                    return failure
                await self.clock.sleep(failure.retry_after_seconds)
            except (SourceBusy, SourceAway, BodyBroken) as failure:
                progressed = _size(self.cache.partial(content.digest)) > before
                fruitless = 0 if progressed else fruitless + 1
                if fruitless >= _FRUITLESS_TRIES:
                    return failure
                wished = failure.retry_after_seconds if isinstance(failure, SourceBusy) else 0.0
                await self.clock.sleep(max(wished, backoff.next_delay()))

    async def _at_once(self, source: Source, content: Content, key: ContentKey) -> None:
        """Through memory and one call to a thread; what was gathered when it fails is kept for the next try."""
        gathered: list[bytes] = []
        try:
            async with aclosing(self._read(source, content, key, 0)) as chunks:
                async for chunk in chunks:
                    gathered.append(chunk)
        except Failure:
            await asyncio.to_thread(self._keep, content, gathered)
            raise
        try:
            await self.cache.publish_bytes(content.digest, gathered)
        except DigestMismatch:
            log.warning("content was wrong, discarded", digest=str(content.digest))
            raise

    def _keep(self, content: Content, gathered: Sequence[bytes]) -> None:
        path = self.cache.partial(content.digest)
        with full_disk_is_a_failure(path.parent), path.open("wb", buffering=0) as file:
            for chunk in gathered:
                write_all(file, chunk)

    async def _read(
        self, source: Source, content: Content, key: ContentKey, position: int
    ) -> AsyncGenerator[bytes, None]:
        """From there to its end; every byte is in the ledger, whatever becomes of it."""
        chunks = self.http.read(source, content.digest, self.token(key), position, content.size_bytes)
        async with aclosing(chunks):
            async for chunk in chunks:
                centre = len(chunk) if source.kind == "centre" else 0
                self.ledger.count(key, centre=centre, regional=len(chunk) - centre)
                yield chunk

    async def _continue(self, source: Source, content: Content, key: ContentKey) -> None:
        """Append to the partial file until it has the content's size."""
        path = self.cache.partial(content.digest)
        with full_disk_is_a_failure(path.parent):
            file = await asyncio.to_thread(_open_for_append, path, content.size_bytes)
            with file:
                position = file.tell()
                if position == content.size_bytes:
                    return
                async with aclosing(self._read(source, content, key, position)) as chunks:
                    async for chunk in chunks:
                        await asyncio.to_thread(write_all, file, chunk)

    async def _publish(self, content: Content) -> None:
        """Raises `DigestMismatch`; the partial file is gone either way."""
        path = self.cache.partial(content.digest)
        try:
            await self.cache.publish(content.digest, content.size_bytes, path)
        except DigestMismatch:
            log.warning("content was wrong, discarded", digest=str(content.digest))
            await asyncio.to_thread(path.unlink, missing_ok=True)
            raise
        await asyncio.to_thread(path.unlink, missing_ok=True)


def summary(content: Content, reasons: Sequence[Failure]) -> Failure:
    """One failure for all sources' failures."""
    detail = "; ".join(reason.detail for reason in reasons) or "no source is known"
    if reasons and all(isinstance(reason, TokenRejected) for reason in reasons):
        return RightExpired(detail, action="the agent attaches again for new tokens; check the clocks if this stays")
    return FetchFailed(
        f"{content.digest} cannot be fetched: {detail}", action="it is tried again", retry_after_seconds=2
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _open_for_append(path: Path, size_bytes: int) -> FileIO:
    if _size(path) > size_bytes:
        path.unlink()  # it cannot be the beginning of this content
    # Unbuffered: what was counted is in the file, and a full disk shows at the write.
    return path.open("ab", buffering=0)
