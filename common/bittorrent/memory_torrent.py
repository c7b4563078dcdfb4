"""One torrent of a memory peer; `common/bittorrent/memory.py` says what it is for."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Protocol

from common.bittorrent import REGIONAL_FINGERPRINT, BannedPeer, RateLimits, Torrent, TorrentStatus
from common.bittorrent.checks import check_credentials, check_file, check_port, disk_failure
from common.bittorrent.credentials import Credentials, PeerCertificate
from common.bittorrent.failures import PieceRejected, TorrentRemoved
from common.bittorrent.memory_rates import MemoryRates
from common.bittorrent.metainfo import Metainfo, verify_piece
from common.bittorrent.provenance import Kind
from common.bittorrent.recheck import held_pieces
from common.errors import Failure


class Fault(Enum):
    CORRUPT = "corrupt"
    SILENT = "silent"


class Network(Protocol):
    """What a torrent asks of the swarm."""

    def neighbours(self, torrent: MemoryTorrent) -> Sequence[MemoryTorrent]: ...

    def take_room(self, folder: Path, size: int) -> bool: ...

    def leave(self, torrent: MemoryTorrent) -> None: ...

    def introduce(self, torrent: MemoryTorrent) -> None:
        """Whom it knows has changed."""
        ...

    def wake(self) -> None:
        """Somebody may be able to take a piece."""
        ...


class MemoryTorrent:
    """Made by `MemorySession.add`."""

    def __init__(
        self, network: Network, port: int, fingerprint: bytes, fault: Fault | None, torrent: Torrent,
        forget: Callable[[Metainfo], None], session_rates: MemoryRates | None = None,
    ) -> None:  # fmt: skip
        self.port = port
        self.named: set[int] = set()
        self.kind = Kind.REGIONAL if fingerprint == REGIONAL_FINGERPRINT else Kind.AGENT
        self._network = network
        self._fault = fault
        self._torrent = torrent
        self._certificate = _trusted(torrent.metainfo, torrent.credentials)
        self._forget = forget
        self._path = torrent.directory / torrent.metainfo.name
        every = frozenset(range(torrent.metainfo.piece_count))
        self._had = set(every if torrent.seed else torrent.have or ())
        check_file(torrent, frozenset(self._had))
        self._received = dict.fromkeys(Kind, 0)
        self._sent = self._failed = self._cursor = 0
        self._banned: set[int] = set()
        self.tell_banned: Callable[[BannedPeer], None] = lambda peer: None
        self._soon: tuple[int, ...] = ()
        self._rates = MemoryRates(network.wake, session_rates)
        self._moved = asyncio.Event()
        self._settled = asyncio.Event()
        self._failure: Failure | None = None
        self._told = self._removed = False
        self._settle()

    @property
    def metainfo(self) -> Metainfo:
        return self._torrent.metainfo

    @property
    def trackers(self) -> frozenset[str]:
        return frozenset(self._torrent.trackers)

    def status(self) -> TorrentStatus:
        return TorrentStatus(
            held_bytes=sum(self.metainfo.piece_size(index) for index in self._had),
            from_agents_bytes=self._received[Kind.AGENT],
            from_regionals_bytes=self._received[Kind.REGIONAL],
            sent_bytes=self._sent,
            failed_bytes=self._failed,
            download_rate=0,
            upload_rate=0,
            peers=sum(1 for other in self._network.neighbours(self) if other.port not in self._banned),
            complete=self._complete() and not self._removed,
        )

    async def complete(self) -> None:
        if self._failure is not None and self._told:
            self._had = set(held_pieces(self._path, self.metainfo, range(self.metainfo.piece_count)))
            self._failure, self._told = None, False
            self._settled.clear()
            self._settle()
            self._network.wake()
        await self._settled.wait()
        if self._removed:
            raise self._gone()
        if self._failure is not None:
            self._told = True
            raise self._failure.with_traceback(None)

    async def add_piece(self, index: int, data: bytes) -> None:
        self._check_usable()
        if not verify_piece(self.metainfo, index, data):
            raise PieceRejected(f"the bytes are not piece {index} of {self.metainfo.name}", index=index)
        if index not in self._had and not self._keep(index, data):
            self._check_usable()

    async def have_pieces(self) -> frozenset[int]:
        return frozenset(self._had)

    async def read_piece(self, index: int) -> bytes:
        self.metainfo.piece_size(index)
        self._check_usable()
        while index not in self._had:
            await self._moved.wait()
            self._check_usable()
        return self._read(index)

    def want_soon(self, pieces: Sequence[int]) -> None:
        self._soon = tuple(pieces)

    async def connect_peer(self, host: str, port: int) -> None:
        """The port alone names a memory peer, whatever the host."""
        self._check_usable()
        check_port(port)
        self.named.add(port)
        self._network.introduce(self)

    async def set_trackers(self, urls: Sequence[str]) -> None:
        self._check_usable()
        self._torrent = replace(self._torrent, trackers=tuple(urls))
        self._network.introduce(self)

    async def set_credentials(self, credentials: Credentials | None) -> None:
        self._certificate = _trusted(self.metainfo, credentials)
        self._torrent = replace(self._torrent, credentials=credentials)
        if not self._removed:
            self._network.introduce(self)

    def may_meet(self, now: datetime) -> bool:
        """What both sides look at in a TLS handshake: authority, name, life."""
        shown = self._certificate
        return not self.metainfo.authority_pem or (shown is not None and shown.is_alive(now))

    @property
    def credentials(self) -> Credentials | None:
        return self._torrent.credentials

    def set_limits(self, limits: RateLimits) -> None:
        self._rates.set(limits)

    async def remove(self) -> None:
        if not self._removed:
            self._removed = True
            self._network.leave(self)
            self._forget(self.metainfo)
            self._settled.set()
            self._tell_readers()

    def give(self, index: int) -> bytes | None:
        """The piece as this peer sends it; None if it has none to give."""
        if index not in self._had or self._failure is not None or self._fault is Fault.SILENT:
            return None
        if not self._rates.may_send():
            return None
        data = self._read(index)
        self._sent += len(data)
        self._rates.sent(len(data))
        return data if self._fault is not Fault.CORRUPT else bytes([data[0] ^ 1]) + data[1:]

    def take_one(self) -> bool:
        """Fetch one missing piece, if anybody has one; whether something moved."""
        if self._settled.is_set() or self._torrent.upload_only or not self._rates.may_receive():
            return False
        return any(self._take_from_peer(index) for index in self._wanted())

    def _take_from_peer(self, index: int) -> bool:
        sources = self._network.neighbours(self)
        for step in range(len(sources)):
            source = sources[(self._cursor + step) % len(sources)]
            if source.port not in self._banned and (data := source.give(index)) is not None:
                self._cursor += step + 1
                self._accept(index, data, source.kind, source.port)
                return True
        return False

    def _accept(self, index: int, data: bytes, kind: Kind, port: int) -> None:
        self._received[kind] += len(data)
        self._rates.received(len(data))
        if verify_piece(self.metainfo, index, data):
            self._keep(index, data)
            return
        self._failed += len(data)
        self._banned.add(port)
        self.tell_banned(BannedPeer(self.metainfo.info_hash, "127.0.0.1", port, ""))

    def _keep(self, index: int, data: bytes) -> bool:
        if not self._network.take_room(self._torrent.directory, len(data)):
            self._failure = disk_failure(self.metainfo, errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._settled.set()
            self._tell_readers()
            return False
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.pwrite(descriptor, data, index * self.metainfo.piece_length)
        finally:
            os.close(descriptor)
        self._had.add(index)
        self._tell_readers()
        self._settle()
        self._network.wake()
        return True

    def _wanted(self) -> Iterator[int]:
        """What is wanted soon; then each peer begins at another place, so that peers have something to exchange."""
        yield from (index for index in self._soon if index not in self._had)
        count = self.metainfo.piece_count
        start = self.port * 7 % count
        yield from (i for step in range(count) if (i := (start + step) % count) not in self._had)

    def _read(self, index: int) -> bytes:
        with self._path.open("rb") as file:
            return os.pread(file.fileno(), self.metainfo.piece_size(index), index * self.metainfo.piece_length)

    def _tell_readers(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def _complete(self) -> bool:
        return len(self._had) == self.metainfo.piece_count and self._failure is None

    def _settle(self) -> None:
        if self._complete():
            self._settled.set()

    def _check_usable(self) -> None:
        if self._removed:
            raise self._gone()
        if self._failure is not None:
            raise self._failure.with_traceback(None)

    def _gone(self) -> TorrentRemoved:
        return TorrentRemoved(f"the torrent of {self.metainfo.name} was removed", action="add it again")


def _trusted(metainfo: Metainfo, credentials: Credentials | None) -> PeerCertificate | None:
    """The certificate, if it is of the swarm's authority and for its name. Raises `CredentialsInvalid`."""
    shown = check_credentials(metainfo, credentials)
    if shown is None or not shown.covers(metainfo.name) or not shown.is_signed_by(metainfo.authority_pem):
        return None
    return shown
