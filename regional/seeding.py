"""The regional as first seed: every content that has a swarm is offered in it, from its first verified piece on.

A torrent shares its file with the cache by hard link and only uploads: pieces reach it through `offer_piece` when the
edge has verified them, so no byte of a peer ever lands in the cache, and a piece spreads while the next one is still
crossing the WAN.

Invariant: a torrent never announces a piece that the edge has not verified. A session that fails costs speed, not
content: agents then read over HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from common.bittorrent import PeerSession, Torrent, TorrentHandle, TorrentStatus
from common.bittorrent.credential_keeper import NoCredentials
from common.bittorrent.metainfo import Metainfo
from common.digest import Digest
from common.errors import Failure
from regional.credentials import Credentials
from regional.directory import ContentDirectory
from regional.model import ContentKey

log = structlog.get_logger()

# Handing a piece over is a copy and a hash away; a session that needs longer is stuck, and the fetch must not wait.
_PATIENCE_SECONDS = 30.0


@dataclass
class _Swarm:
    handle: TorrentHandle
    given: set[int] = field(default_factory=set)
    complete: bool = False


class Seeding:
    """`credentials` None: for swarms that speak plainly alone."""

    def __init__(
        self, session: PeerSession, directory: ContentDirectory, credentials: Credentials | None = None
    ) -> None:
        self._credentials = credentials
        self._session = session
        self._directory = directory
        self._swarms: dict[Digest, dict[ContentKey, _Swarm]] = {}
        self._locks: dict[Digest, asyncio.Lock] = {}

    @property
    def port(self) -> int:
        return self._session.listen_port

    def seeds(self, key: ContentKey) -> bool:
        return key in self._swarms.get(key.digest, {})

    async def join(self, key: ContentKey, metainfo: Metainfo, verified: Callable[[], frozenset[int]] | None) -> None:
        """Offer a content in its tenant's swarm. `verified` gives the pieces that its file holds; None: all of it.

        Harmless to repeat. A failure is logged: the content stays available over HTTP.
        """
        if self.seeds(key):
            return
        try:
            # Before the lock: a fetch that has pieces to offer must not wait for a certificate.
            shown = await self._credentials.keeper.obtain(key.tenant_id, metainfo) if self._credentials else None
        except NoCredentials as failure:
            log.warning("swarm not joined", digest=str(key.digest), tenant=key.tenant_id, error=str(failure))
            return
        async with self._lock(key.digest):
            if self.seeds(key):
                return
            try:
                directory = await asyncio.to_thread(self._directory.link, key.digest, metainfo)
                # Read under the lock: a piece verified from here on comes through `offer_piece`.
                have = verified() if verified else None
                torrent = Torrent(
                    metainfo, directory, have=have, seed=have is None, upload_only=True, credentials=shown
                )
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    handle = await self._session.add(torrent)
            except (Failure, TimeoutError) as error:
                log.warning("swarm not joined", digest=str(key.digest), tenant=key.tenant_id, error=str(error))
                return
            swarm = _Swarm(handle, set(have or ()), complete=have is None)
            self._swarms.setdefault(key.digest, {})[key] = swarm
            log.info("swarm joined", digest=str(key.digest), tenant=key.tenant_id, pieces=metainfo.piece_count)

    async def offer_piece(self, digest: Digest, index: int, data: bytes) -> None:
        """A piece was verified and is in the file."""
        if digest not in self._swarms:
            return
        async with self._lock(digest):
            for key, swarm in list(self._swarms.get(digest, {}).items()):
                if swarm.complete or index in swarm.given:
                    continue
                try:
                    async with asyncio.timeout(_PATIENCE_SECONDS):
                        await swarm.handle.add_piece(index, data)
                    swarm.given.add(index)
                except (Failure, TimeoutError) as error:
                    log.warning("piece not offered", digest=str(digest), tenant=key.tenant_id, error=str(error))
                    # A torrent with a hole never completes. It is joined anew, with what the file then holds.
                    del self._swarms[digest][key]
                    await self._remove(swarm)

    async def leave(self, digest: Digest) -> None:
        """Stop offering it to anybody and remove its links."""
        async with self._lock(digest):
            for swarm in self._swarms.pop(digest, {}).values():
                await self._remove(swarm)
                await asyncio.to_thread(self._directory.unlink, swarm.handle.metainfo.info_hash)
        if digest not in self._swarms:
            self._locks.pop(digest, None)

    async def _remove(self, swarm: _Swarm) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await swarm.handle.remove()
        except (Failure, TimeoutError) as error:
            log.warning("swarm not left", name=swarm.handle.metainfo.name, error=str(error))

    def permit(self, key: ContentKey, token: str) -> None:
        """A genuine token of that tenant, with which a certificate can be asked for."""
        if self._credentials is not None:
            self._credentials.offer(key.tenant_id, token)

    def retry_now(self) -> None:
        if self._credentials is not None:
            self._credentials.keeper.retry_now()

    def members(self) -> list[tuple[str, TorrentHandle]]:
        """Every swarm, with its tenant."""
        return [(key.tenant_id, one.handle) for swarms in self._swarms.values() for key, one in swarms.items()]

    def torrents(self) -> list[tuple[ContentKey, TorrentHandle]]:
        return [(key, swarm.handle) for swarms in self._swarms.values() for key, swarm in swarms.items()]

    def statuses(self) -> list[TorrentStatus]:
        return [swarm.handle.status() for swarms in self._swarms.values() for swarm in swarms.values()]

    def _lock(self, digest: Digest) -> asyncio.Lock:
        return self._locks.setdefault(digest, asyncio.Lock())
