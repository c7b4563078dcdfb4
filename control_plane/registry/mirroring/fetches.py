"""Blobs on their way from upstream: stored and handed to clients at the same time, one fetch for everybody.

The fetch belongs to nobody who waits for it: clients come (also late: they read the beginning from the spool) and go.
It ends when the store has the blob, when upstream broke off too often, or when its time is over: ten minutes and what
the blob takes at 256 KB/s.

Invariant: a client gets the last bytes of a blob only after the store verified and published it, so that a connection
that ended well delivered the true blob.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Protocol

import structlog

from common.digest import Digest
from common.errors import Failure, Internal
from common.lifecycle import Lifecycle
from control_plane.registry.failures import BlobUnknown
from control_plane.registry.mirroring.directory import Mirrored
from control_plane.registry.mirroring.failures import UpstreamAway
from control_plane.registry.mirroring.metrics import MirrorMetrics
from control_plane.registry.mirroring.spool import Spool
from control_plane.registry.mirroring.troubles import translated
from control_plane.registry.mirroring.turns import Turns
from control_plane.registry.model import Pushed
from control_plane.registry.remote.downloads import Download
from control_plane.tenants.access import Principal

# Held back until the blob is verified; small, for on the wire it is nothing.
_TAIL = 64 << 10
_PIECE = 1 << 20
_MOST_FETCHES = 256
_GRACE_SECONDS = 600.0
_SLOWEST = 256 << 10
log = structlog.get_logger()


class Shelf(Protocol):
    """Where fetched blobs go: the registry, as this package uses it."""

    async def has(self, mirrored: Mirrored, digest: Digest) -> bool: ...

    async def keep(
        self, by: Principal, repository: str, digest: Digest, chunks: AsyncIterator[bytes], size: int
    ) -> Pushed: ...


class Fetch:
    """One blob that is coming. Readers follow what has arrived."""

    def __init__(self, spool: Spool) -> None:
        self.size = 0
        self.readers = 0
        self.ended = False
        self._spool = spool
        self._opened = False
        self._published = False
        self._failure: Failure | None = None
        self._changed = asyncio.Event()

    def open(self, size: int) -> None:
        self.size, self._opened = size, True
        self._tell()

    async def take(self, piece: bytes) -> None:
        await self._spool.append(piece)
        self._tell()

    def end(self, failure: Failure | None, *, published: bool = False) -> None:
        self._failure, self._published, self.ended = failure, published, True
        self._tell()
        self.close_if_unused()

    def close_if_unused(self) -> None:
        if self.ended and not self.readers:
            self._spool.close()

    async def opened(self) -> bool:
        """Whether something is coming; false if it is here already or is nowhere. Raises why it cannot come. A blob
        that fits into what is held back is waited for: its failure is then an answer, not a broken connection, and an
        empty one is verified too.
        """
        while not self.ended and (not self._opened or self.size <= _TAIL):
            await self._change()
        if self._failure is not None:
            raise self._failure
        return self._opened

    async def complete(self) -> None:
        """Until it is published. Raises why it is not."""
        while not self.ended:
            await self._change()
        if self._failure is not None:
            raise self._failure

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        at = start
        while at < end:
            reach = await self._reach(at, end)
            piece = await self._spool.read(at, min(reach, at + _PIECE))
            at += len(piece)
            yield piece

    async def _reach(self, at: int, end: int) -> int:
        while True:
            if self._failure is not None:
                raise self._failure
            reach = self.size if self._published else min(self._spool.size, max(0, self.size - _TAIL))
            if reach > at:
                return min(reach, end)
            await self._change()

    async def _change(self) -> None:
        await self._changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Fetches:
    """`directory` holds the spools; it is made if need be."""

    def __init__(
        self, directory: Path, shelf: Shelf, lifecycle: Lifecycle, turns: Turns, metrics: MirrorMetrics
    ) -> None:
        self._directory = directory
        self._metrics = metrics
        self._shelf = shelf
        self._lifecycle = lifecycle
        self._turns = turns
        self._running: dict[tuple[str, Digest], Fetch] = {}

    @contextlib.asynccontextmanager
    async def join(self, mirrored: Mirrored, digest: Digest) -> AsyncIterator[Fetch | None]:
        """None if there is nothing to wait for. Raises why it cannot come."""
        key = (mirrored.repository, digest)
        fetch = self._running.get(key) or self._begin(mirrored, digest)
        fetch.readers += 1
        try:
            yield fetch if await fetch.opened() else None
        finally:
            fetch.readers -= 1
            fetch.close_if_unused()

    def _begin(self, mirrored: Mirrored, digest: Digest) -> Fetch:
        if len(self._running) >= _MOST_FETCHES:
            raise UpstreamAway(
                f"{_MOST_FETCHES} blobs are being fetched at this moment", action="try again", retry_after_seconds=5
            )
        self._directory.mkdir(parents=True, exist_ok=True)
        fetch = self._running[mirrored.repository, digest] = Fetch(Spool(self._directory))
        self._lifecycle.spawn("mirror fetch", self._run(fetch, mirrored, digest))
        return fetch

    async def _run(self, fetch: Fetch, mirrored: Mirrored, digest: Digest) -> None:
        failure: Failure | None = None
        published = False
        try:
            async with asyncio.timeout(_GRACE_SECONDS) as limit:
                published = await self._brought(fetch, mirrored, digest, limit)
        except (Failure, TimeoutError) as error:
            failure = translated(error, mirrored)
            self._metrics.count("blob", "absent" if isinstance(failure, BlobUnknown) else "failed")
            log.warning("fetch failed", mirror=mirrored.mirror.name, digest=str(digest), failure=str(failure))
        except Exception as error:
            log.error("fetch failed", mirror=mirrored.mirror.name, digest=str(digest), exc_info=error)
            failure = Internal("the server failed in a way it did not foresee", action="try again")
        except BaseException:
            failure = UpstreamAway("the server stops", action="pull again")
            raise
        finally:
            # In this order: who comes now finds the blob, or begins anew.
            del self._running[mirrored.repository, digest]
            fetch.end(failure, published=published)

    async def _brought(self, fetch: Fetch, mirrored: Mirrored, digest: Digest, limit: asyncio.Timeout) -> bool:
        async def stored() -> bool:
            return await self._shelf.has(mirrored, digest)

        async with self._turns.turn(f"{mirrored.repository}@{digest}", stored) as mine:
            return not mine or await stored() or await self._fetch(fetch, mirrored, digest, limit)

    async def _fetch(self, fetch: Fetch, mirrored: Mirrored, digest: Digest, limit: asyncio.Timeout) -> bool:
        async with mirrored.client.download(mirrored.there, digest, verify=False) as download:
            limit.reschedule((limit.when() or 0.0) + download.size / _SLOWEST)
            fetch.open(download.size)
            async with contextlib.aclosing(self._chunks(fetch, download)) as chunks:
                await self._shelf.keep(mirrored.mirror.keeper, mirrored.repository, digest, chunks, download.size)
        self._metrics.count("blob", "fetched")
        self._metrics.fetched(download.size)
        log.info("blob fetched", mirror=mirrored.mirror.name, digest=str(digest), size=download.size)
        return True

    async def _chunks(self, fetch: Fetch, download: Download) -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(download.pieces()) as pieces:
            async for piece in pieces:
                await fetch.take(piece)
                yield piece
