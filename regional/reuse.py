"""Contents of the same tenant that this regional holds already, as a source for a new one; and the block maps by which
they are compared, fetched from the centre once and passed on to the IDC's hosts.

Invariant: only contents of the tenant by whose right the new one is fetched are looked at, so that nobody learns from a
fast fetch what others hold. Whatever fails here costs bytes of the WAN, never the fetch.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from common.bittorrent import reuse, reuse_files
from common.bittorrent.merkle import zeros_root
from common.bittorrent.metainfo import Metainfo
from common.bittorrent.reuse_donors import Candidate, Stopped
from common.bittorrent.reuse_files import Composer
from common.errors import Failure
from regional.centre import Centre
from regional.crossings import Crossings
from regional.directory import ContentDirectory
from regional.metainfos import Metainfos
from regional.model import ContentKey
from regional.shelf import Shelf

log = structlog.get_logger()


@dataclass
class Reuse:
    """reused_bytes: what did not cross the WAN because it was here, since the start of the process."""

    directory: ContentDirectory
    centre: Centre
    crossings: Crossings
    shelf: Shelf
    metainfos: Metainfos
    reused_bytes: int = 0
    _locks: dict[ContentKey, asyncio.Lock] = field(default_factory=dict)

    async def blocks(self, key: ContentKey, token: str) -> bytes | None:
        """The centre's block map, kept on disk; None: there is none. Raises the centre's failures."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                encoded = await asyncio.to_thread(self.directory.blocks, key.digest)
                if encoded is None:
                    encoded = await self._ask(key, token)
                return encoded or None
        finally:
            if not lock.locked():
                self._locks.pop(key, None)

    async def _ask(self, key: ContentKey, token: str) -> bytes:
        encoded = await self.centre.blocks(key.digest, token) or b""
        self.crossings.add(key, len(encoded))
        await self.crossings.save(key)
        await asyncio.to_thread(self.directory.save_blocks, key.digest, encoded)
        return encoded

    @asynccontextmanager
    async def of(
        self, key: ContentKey, token: str, metainfo: Metainfo, *, fresh: bool
    ) -> AsyncIterator[Composer | None]:
        """Where pieces of the content are to be had here; None: nowhere. Costs about a second a GiB and donor.

        fresh: its partial file was made just now.
        """
        stop = threading.Event()
        composer = None
        try:
            composer = await self._find(key, token, metainfo, stop, fresh=fresh)
        except (Failure, OSError, Stopped) as error:
            log.warning("nothing reused", digest=str(key.digest), tenant=key.tenant_id, error=str(error))
        finally:
            stop.set()
        try:
            yield composer
        finally:
            if composer is not None:
                composer.close()

    async def _find(
        self, key: ContentKey, token: str, metainfo: Metainfo, stop: threading.Event, *, fresh: bool
    ) -> Composer | None:
        candidates = self._candidates(key)
        if metainfo.length < reuse.SMALLEST_CONTENT or not (
            candidates or zeros_root(metainfo.piece_length) in metainfo.piece_layer
        ):
            return None
        encoded = await self.blocks(key, token)
        if encoded is None:
            return None
        path = self.directory.partial_path(key.digest)

        def find() -> Composer:
            target = reuse.parse(encoded, metainfo.length)
            return reuse_files.find(metainfo, target, candidates, path, fresh=fresh, stop=stop)

        composer = await asyncio.to_thread(find)
        reused = metainfo.length - composer.missing_bytes
        log.info("held contents compared", digest=str(key.digest), candidates=len(candidates), reusable_bytes=reused)
        if reused:
            return composer
        composer.close()
        return None

    def _candidates(self, key: ContentKey) -> list[Candidate]:
        """Contents of the tenant that are held, the newest known first."""
        held = [
            other.digest
            for other, metainfo in reversed(self.metainfos.known().items())
            if other.tenant_id == key.tenant_id and other.digest != key.digest and metainfo is not None
        ]
        return [
            Candidate(digest, self.directory.content_path(digest))
            for digest in held
            if (self.shelf.size(digest) or 0) >= reuse.SMALLEST_CONTENT
        ]
