"""The torrents of this host: each in a folder of its own, `<info-hash>/<name>`, with its metainfo kept beside.

Invariants: a file here holds either what a download has gathered, of which nothing is believed before it was hashed
again, or the very inode of the verified content, which only uploads. A metainfo that was ever received survives a
restart, so a swarm goes on while regional and centre are away. One torrent a tenant and content: info-hashes are salted
by tenant, so tenants never meet in a swarm.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, unquote

import structlog

from agent.cache import full_disk_is_a_failure
from agent.ledger import ContentKey
from agent.urgency import Urgency
from common.bittorrent import PeerSession, Torrent, TorrentHandle, TorrentStatus
from common.bittorrent import metainfo as torrents
from common.bittorrent.credentials import Credentials
from common.bittorrent.metainfo import Metainfo
from common.bittorrent.recheck import verify_file
from common.digest import Digest
from common.durable import write_file
from common.errors import Failure

log = structlog.get_logger()

_PATIENCE_SECONDS = 30.0

Fill = Callable[[ContentKey, Metainfo, Path, frozenset[int] | None], Awaitable[frozenset[int] | None]]
"""`Reuse.fill`: (key, metainfo, file, pieces that it holds; None: no file) -> the same afterwards."""

Obtain = Callable[[str, Metainfo], Awaitable[Credentials | None]]
"""`CredentialKeeper.obtain`: (tenant id, metainfo) -> our certificate, None for a swarm that speaks plainly."""


@dataclass
class Member:
    """Our part in one swarm. `counted`: the status up to which bytes were put into the ledger; `urgency`: pieces that
    readers wait for, to be had before all others, by whatever way.
    """

    metainfo: Metainfo
    handle: TorrentHandle
    trackers: tuple[str, ...]
    counted: TorrentStatus | None = None
    urgency: Urgency = field(default_factory=Urgency)


class Swarms:
    """`obtain`: gives what we show to peers of a tenant's swarm; None where they speak plainly."""

    def __init__(self, session: PeerSession, root: Path) -> None:
        self._session = session
        self._root = root
        self._metainfos: dict[ContentKey, Metainfo] = {}
        self._members: dict[ContentKey, Member] = {}
        self._locks: dict[ContentKey, asyncio.Lock] = {}
        self.fill: Fill = _nothing
        self.obtain: Obtain = _plain

    async def load(self) -> None:
        """The metainfos that earlier processes kept; call once, before anything else."""
        self._metainfos = await asyncio.to_thread(self._read_metainfos)

    def metainfo(self, key: ContentKey) -> Metainfo | None:
        return self._metainfos.get(key)

    def key_of(self, info_hash: bytes) -> ContentKey | None:
        """Whose swarm that is, among those we take part in."""
        return next((key for key, one in self._members.items() if one.metainfo.info_hash == info_hash), None)

    def member(self, key: ContentKey) -> Member | None:
        return self._members.get(key)

    def members(self) -> list[tuple[str, TorrentHandle]]:
        """Every swarm that was joined, with its tenant."""
        return [(tenant_id, member.handle) for (tenant_id, _), member in self._members.items()]

    def torrents(self) -> list[tuple[ContentKey, TorrentHandle]]:
        return [(key, member.handle) for key, member in self._members.items()]

    async def rest(self, key: ContentKey) -> None:
        """Leave the swarm for now; what was gathered stays, and `join` goes on from it."""
        async with self._lock(key):
            member = self._members.pop(key, None)
            if member is not None:
                log.info("swarm rests", digest=str(key[1]))
                await self._remove(key, member)

    def known(self) -> set[ContentKey]:
        return self._metainfos.keys() | self._members.keys()

    def path(self, metainfo: Metainfo) -> Path:
        return self._root / metainfo.info_hash.hex() / metainfo.name

    async def remember(self, key: ContentKey, metainfo: Metainfo) -> None:
        """Durable on return."""
        await asyncio.to_thread(write_file, self._metainfo_path(key), metainfo.encoded)
        self._metainfos[key] = metainfo

    async def join(self, key: ContentKey, metainfo: Metainfo, trackers: Sequence[str]) -> Member:
        """Take part to get the content. What an earlier process gathered is hashed again and kept, and what other
        contents here have of it is put in first (`fill`). Harmless to repeat.

        Raises the failures of the peer session, and OSError.
        """
        async with self._lock(key):
            if (known := self._members.get(key)) is not None:
                return known
            path = self.path(metainfo)
            with full_disk_is_a_failure(self._root):
                await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
            have = await verify_file(path, metainfo) if path.exists() else None
            if have is not None:
                log.info("swarm resumed", digest=str(key[1]), pieces=metainfo.piece_count, held=len(have))
            have = await self.fill(key, metainfo, path, have)
            return await self._add(key, Torrent(metainfo, path.parent, have=have, trackers=tuple(trackers)))

    async def seed(self, key: ContentKey, metainfo: Metainfo, content: Path, trackers: Sequence[str]) -> None:
        """Give what is verified to others. Harmless to repeat. Raises as `join`."""
        async with self._lock(key):
            if key not in self._members:
                await asyncio.to_thread(self._link, content, self.path(metainfo))
                folder = self.path(metainfo).parent
                # upload_only: the file is the cache's, nobody's unverified block may ever land in it.
                torrent = Torrent(metainfo, folder, seed=True, upload_only=True, trackers=tuple(trackers))
                await self._add(key, torrent)

    async def announce_to(self, key: ContentKey, trackers: Sequence[str]) -> None:
        """Tokens were renewed, or regionals changed."""
        member = self._members.get(key)
        if member is not None and member.trackers != tuple(trackers):
            await member.handle.set_trackers(trackers)
            member.trackers = tuple(trackers)

    async def leave(self, key: ContentKey) -> None:
        """Stop, and remove the folder and the metainfo. The cache's link to the same bytes stays."""
        async with self._lock(key):
            member = self._members.pop(key, None)
            if member is not None:
                await self._remove(key, member)
            metainfo = self._metainfos.pop(key, None)
            await asyncio.to_thread(self._metainfo_path(key).unlink, missing_ok=True)
            if metainfo is not None:
                await asyncio.to_thread(shutil.rmtree, self.path(metainfo).parent, ignore_errors=True)
        self._locks.pop(key, None)

    async def leave_content(self, digest: Digest) -> None:
        """In every tenant's swarm."""
        for key in [key for key in self.known() if key[1] == digest]:
            await self.leave(key)

    async def _add(self, key: ContentKey, torrent: Torrent) -> Member:
        torrent = replace(torrent, credentials=await self.obtain(key[0], torrent.metainfo))
        async with asyncio.timeout(_PATIENCE_SECONDS):
            handle = await self._session.add(torrent)
        member = self._members[key] = Member(torrent.metainfo, handle, tuple(torrent.trackers))
        return member

    async def _remove(self, key: ContentKey, member: Member) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await member.handle.remove()
        except (Failure, TimeoutError) as error:
            log.warning("swarm not left", digest=str(key[1]), error=str(error))

    def _link(self, content: Path, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.samefile(content):
            return
        path.unlink(missing_ok=True)
        os.link(content, path)

    def _metainfo_path(self, key: ContentKey) -> Path:
        tenant_id, digest = key
        return self._root / f"{digest.algorithm}-{digest.hex}.{quote(tenant_id, safe='')}"

    def _read_metainfos(self) -> dict[ContentKey, Metainfo]:
        self._root.mkdir(parents=True, exist_ok=True)
        found: dict[ContentKey, Metainfo] = {}
        for path in sorted(self._root.iterdir()):
            name, _, tenant_id = path.name.partition(".")
            if not path.is_file() or path.name.startswith("."):
                continue
            try:
                key = (unquote(tenant_id), Digest.parse(name.replace("-", ":", 1)))
                found[key] = torrents.parse(path.read_bytes())
            except Failure as failure:
                log.warning("metainfo not readable, removed", path=str(path), error=str(failure))
                path.unlink()
        kept = {metainfo.info_hash.hex() for metainfo in found.values()}
        for folder in self._root.iterdir():
            if folder.is_dir() and folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)
        return found

    def _lock(self, key: ContentKey) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())


async def _nothing(
    _key: ContentKey, _metainfo: Metainfo, _path: Path, have: frozenset[int] | None
) -> frozenset[int] | None:
    return have


async def _plain(_tenant_id: str, _metainfo: Metainfo) -> Credentials | None:
    return None
