"""One torrent in a libtorrent session: what `TorrentHandle` promises, over the engine's alerts.

Invariant: `complete()` returns only after libtorrent has flushed. Its finished alert comes before the last blocks are
in the file (measured), and on a full disk it comes all the same, is followed by the write errors, and the torrent goes
on serving pieces that are not there (measured: 21 of 33). So a disk error takes the torrent out of libtorrent at once,
and the next `complete()` re-verifies the file and adds it again with what is good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import libtorrent as lt
import structlog

from common.bittorrent import RateLimits, Torrent, TorrentStatus, libtorrent_tls
from common.bittorrent import libtorrent_parameters as translate
from common.bittorrent.addresses import resolve
from common.bittorrent.checks import check_credentials, check_file, disk_failure
from common.bittorrent.credentials import Credentials
from common.bittorrent.failures import PieceRejected, TorrentRemoved
from common.bittorrent.libtorrent_engine import Engine
from common.bittorrent.libtorrent_meter import Meter
from common.bittorrent.libtorrent_reads import PieceReads
from common.bittorrent.metainfo import Metainfo, verify_piece
from common.bittorrent.recheck import verify_file
from common.errors import Failure, Unavailable

log = structlog.get_logger()

_PIECE_SECONDS = 30.0


class LibtorrentTorrent:
    """Made by `LibtorrentSession.add`. `forget` is called once, when the torrent's place is free again."""

    def __init__(self, engine: Engine, torrent: Torrent, forget: Callable[[], None]) -> None:
        self._engine = engine
        self._torrent = torrent
        self._forget = forget
        self._handle: Any = None
        self._had: set[int] = set()
        self._held_bytes = 0
        self._meter = Meter(self._on_sampled)
        self._pieces: dict[int, asyncio.Future[Failure | bool]] = {}
        self._limits = RateLimits()
        self._reads = PieceReads(torrent.metainfo, self._present, lambda index: index in self._had)
        self._peers: dict[tuple[str, int], None] = {}
        self._settled = asyncio.Event()
        self._finished = self._flushed = self._sampled = False
        self._failure: Failure | None = None
        self._told = False
        self._removed = False
        self._restarting = asyncio.Lock()

    @property
    def metainfo(self) -> Metainfo:
        return self._torrent.metainfo

    @property
    def credentials(self) -> Credentials | None:
        return self._torrent.credentials

    async def start(self, have: frozenset[int]) -> None:
        """Hand it to libtorrent. Raises `ContentMissing`, `Unavailable`."""
        wanted = await asyncio.to_thread(self._prepare, have)
        wanted.peers = list(self._peers)
        wanted.download_limit, wanted.upload_limit = self._limits.download, self._limits.upload
        self._reset(have)
        await self._engine.add(wanted, self.metainfo.info_hash, self)
        if self._torrent.credentials is not None:
            libtorrent_tls.show(self._handle, self._torrent.credentials)

    def _prepare(self, have: frozenset[int]) -> Any:
        check_file(self._torrent, have)
        return translate.parameters(self._torrent, have)

    def _reset(self, have: frozenset[int]) -> None:
        self._had = set(have)
        self._held_bytes = sum(self.metainfo.piece_size(index) for index in have)
        complete = len(have) == self.metainfo.piece_count
        self._finished = self._flushed = self._sampled = complete
        self._failure, self._told = None, False
        if complete:
            self._settled.set()
        else:
            self._settled.clear()

    # What callers ask.

    def status(self) -> TorrentStatus:
        complete = self._settled.is_set() and self._failure is None and not self._removed
        return self._meter.status(self._held_bytes, complete=complete)

    async def complete(self) -> None:
        if self._failure is not None and self._told:
            await self._start_again()
        await self._settled.wait()
        if self._removed:
            raise self._gone()
        if self._failure is not None:
            self._told = True
            raise self._failure.with_traceback(None)

    async def add_piece(self, index: int, data: bytes) -> None:
        """Raises `PieceRejected`, and `Unavailable` if the disk failed or libtorrent does not answer in 30 s."""
        handle = self._usable()
        if not 0 <= index < self.metainfo.piece_count or len(data) != self.metainfo.piece_size(index):
            raise PieceRejected(f"{len(data)} bytes are not piece {index} of {self.metainfo.name}", index=index)
        if index in self._had:
            return
        answer = self._pieces.get(index)
        if answer is None:
            answer = self._pieces[index] = asyncio.get_running_loop().create_future()
        # Blocks that peers sent of this piece are not verified yet: ours replace them.
        handle.add_piece(index, data, lt.add_piece_flags_t.overwrite_existing)
        await asyncio.wait([answer], timeout=_PIECE_SECONDS)
        if not answer.done():
            raise Unavailable(f"libtorrent did not verify piece {index} in time", action="give it again")
        result = answer.result()
        if isinstance(result, Failure):
            raise result
        if not result:
            if await asyncio.to_thread(verify_piece, self.metainfo, index, data):
                raise Unavailable(f"a peer's blocks got into piece {index}", action="give it again", index=index)
            raise PieceRejected(f"the bytes are not piece {index} of {self.metainfo.name}", index=index)

    async def have_pieces(self) -> frozenset[int]:
        return frozenset(self._had)

    async def read_piece(self, index: int) -> bytes:
        self._usable()
        return await self._reads.read(index)

    def want_soon(self, pieces: Sequence[int]) -> None:
        self._reads.want_soon(pieces)

    async def connect_peer(self, host: str, port: int) -> None:
        handle = self._usable()
        address = await resolve(host, port)
        self._peers[address] = None
        handle.connect_peer(address)

    async def set_trackers(self, urls: Sequence[str]) -> None:
        if tuple(urls) != tuple(self._torrent.trackers):
            self._torrent = replace(self._torrent, trackers=tuple(urls))
            self._usable().replace_trackers(translate.announce_list(urls))

    async def set_credentials(self, credentials: Credentials | None) -> None:
        check_credentials(self.metainfo, credentials)
        self._torrent = replace(self._torrent, credentials=credentials)
        if (handle := self._present()) is None:
            return  # stopped by its disk: the next `complete()` shows them
        if credentials is not None:
            libtorrent_tls.show(handle, credentials)
        elif self.metainfo.authority_pem:
            libtorrent_tls.hide(handle)

    def set_limits(self, limits: RateLimits) -> None:
        self._limits = limits
        if (handle := self._present()) is not None:
            handle.set_download_limit(limits.download)
            handle.set_upload_limit(limits.upload)

    async def remove(self) -> None:
        if self._removed:
            await self._meter.idle()
            return
        self._end(self._gone())
        self._removed = True
        self._settled.set()
        try:
            if self._handle is not None:
                await self._engine.remove(self._handle, self.metainfo.info_hash)
        finally:
            await self._meter.idle()
            self._forget()

    # What libtorrent tells.

    def on_added(self, handle: Any) -> None:
        self._handle = handle
        self._reads.renew()

    def on_piece(self, index: int) -> None:
        if index not in self._had:
            self._had.add(index)
            self._held_bytes += self.metainfo.piece_size(index)
            self._reads.arrived(index)
        self._answer(index, True)

    def on_read(self, index: int, data: bytes | None, message: str) -> None:
        self._reads.answered(index, data, message)

    def on_hash_failed(self, index: int) -> None:
        log.warning("piece failed its hash", name=self.metainfo.name, index=index)
        self._answer(index, False)

    def on_finished(self) -> None:
        if not self._finished:
            self._finished = True
            self._handle.flush_cache()
            self._meter.sample(self._handle)

    def on_flushed(self) -> None:
        if self._finished:
            self._flushed = True
            self._settle()

    def on_disk_error(self, number: int, message: str) -> None:
        if self._failure is not None or self._removed:
            return
        self._failure, self._told = disk_failure(self.metainfo, number, message), False
        log.warning("torrent stopped by its disk", name=self.metainfo.name, errno=number)
        self._end(self._failure)
        self._engine.drop(self._handle)
        self._settled.set()

    def on_status(self, status: Any) -> None:
        if self._meter.update(status) and not self._sampled:
            self._meter.sample(self._handle)

    def on_resync(self, pieces: Sequence[bool], *, finished: bool) -> None:
        for index, held in enumerate(pieces):
            if held:
                self.on_piece(index)
        if finished and not self._flushed:
            self._finished = False
            self.on_finished()

    def on_departed(self, peer_id: bytes) -> None:
        self._meter.departed(translate.departed_kind(peer_id))

    def _on_sampled(self) -> None:
        if self._finished:
            self._sampled = True
            self._settle()

    # Ends and new starts.

    def _settle(self) -> None:
        if self._finished and self._flushed and self._sampled and self._failure is None:
            self._settled.set()

    async def _start_again(self) -> None:
        async with self._restarting:
            failure = self._failure
            if failure is None or self._removed:
                return
            have = await verify_file(self._torrent.directory / self.metainfo.name, self.metainfo)
            try:
                await self.start(have)
            except BaseException:
                self._failure, self._told = failure, True
                self._settled.set()
                raise

    def _end(self, failure: Failure) -> None:
        """The torrent leaves libtorrent: keep its totals, and tell those who wait for a piece."""
        self._meter.end()
        self._reads.end(failure)
        for index in list(self._pieces):
            self._answer(index, failure)

    def _answer(self, index: int, result: Failure | bool) -> None:
        answer = self._pieces.pop(index, None)
        if answer is not None and not answer.done():
            answer.set_result(result)

    def _present(self) -> Any:
        return None if self._removed or self._failure is not None else self._handle

    def _usable(self) -> Any:
        if self._removed:
            raise self._gone()
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        return self._handle

    def _gone(self) -> TorrentRemoved:
        return TorrentRemoved(f"the torrent of {self.metainfo.name} was removed", action="add it again")
