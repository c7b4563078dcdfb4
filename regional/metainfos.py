"""The metainfo of each tenant's swarm: asked of the centre once, then kept on disk, and looked up by info-hash.

Invariant: a metainfo that was ever received survives a restart, so swarms go on while the centre is away. Concurrent
questions for one key become one request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from common.bittorrent import metainfo as torrents
from common.bittorrent.metainfo import Metainfo
from common.clock import Clock
from common.digest import Digest
from common.errors import Failure
from regional.centre import Centre, CentreRefused
from regional.cooldown import Cooldown
from regional.directory import ContentDirectory
from regional.model import ContentKey

# Trackers and handshakes carry the first 20 bytes of a v2 info-hash (BEP 52).
WIRE_HASH_BYTES = 20


class Metainfos:
    def __init__(self, directory: ContentDirectory, centre: Centre, clock: Clock, random: Callable[[], float]) -> None:
        self._directory = directory
        self._centre = centre
        self._cooldown: Cooldown[ContentKey] = Cooldown(clock, random)
        self._known: dict[ContentKey, Metainfo | None] = {}
        self._by_hash: dict[bytes, ContentKey] = {}
        self._locks: dict[ContentKey, asyncio.Lock] = {}

    async def load(self) -> None:
        """What earlier processes kept; call once, before anything else."""
        for key, metainfo in (await asyncio.to_thread(self._directory.metainfos)).items():
            self._remember(key, metainfo)

    def known(self) -> dict[ContentKey, Metainfo | None]:
        return dict(self._known)

    def key_of(self, wire_hash: bytes) -> ContentKey | None:
        """Whose swarm this 20-byte hash names."""
        return self._by_hash.get(wire_hash)

    async def get(self, key: ContentKey, token: str) -> Metainfo | None:
        """None: the content has no swarm. Raises the failures of `Centre.metainfo`, and `MetainfoInvalid`."""
        if key in self._known:
            return self._known[key]
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                if key not in self._known:
                    await self._ask(key, token)
                return self._known[key]
        finally:
            # The next one to ask makes a new lock; those who still wait hold this one.
            if not lock.locked():
                self._locks.pop(key, None)

    def forget(self, digest: Digest) -> list[Metainfo]:
        """Drop what is known of a content that left the disk; what was dropped."""
        gone = [key for key in self._known if key.digest == digest]
        metainfos = [metainfo for key in gone if (metainfo := self._known.pop(key)) is not None]
        for metainfo in metainfos:
            self._by_hash.pop(metainfo.info_hash[:WIRE_HASH_BYTES], None)
        return metainfos

    def retry_now(self) -> None:
        self._cooldown.clear()

    async def _ask(self, key: ContentKey, token: str) -> None:
        self._cooldown.check(key)
        try:
            encoded = await self._centre.metainfo(key.digest, token)
            metainfo = None if encoded is None else await asyncio.to_thread(torrents.parse, encoded)
        except Failure as failure:
            # A refusal is about this token only; the next caller's may be good.
            if not isinstance(failure, CentreRefused):
                self._cooldown.failed(key, failure)
            raise
        await asyncio.to_thread(self._directory.save_metainfo, key, encoded or b"")
        self._cooldown.succeeded(key)
        self._remember(key, metainfo)

    def _remember(self, key: ContentKey, metainfo: Metainfo | None) -> None:
        self._known[key] = metainfo
        if metainfo is not None:
            self._by_hash[metainfo.info_hash[:WIRE_HASH_BYTES]] = key
