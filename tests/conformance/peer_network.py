"""What the suite of `PeerSession` is made of: a laboratory of peers, content, and ways to wait."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from common.bittorrent import AGENT_FINGERPRINT, PeerSession, TorrentHandle
from common.bittorrent.merkle import MerkleBuilder
from common.bittorrent.metainfo import Metainfo, build
from common.errors import Failure

PIECE = 64 << 10
LENGTH = 40 * PIECE + 12_345
SALT = b"a tenant's secret salt"


class SmallDisk(Protocol):
    path: Path

    def grow(self) -> None: ...


class PeerLab(Protocol):
    async def session(self, fingerprint: bytes = AGENT_FINGERPRINT, *, tls: bool = False) -> PeerSession: ...

    async def attempted(self) -> None:
        """Whoever was told of a peer has tried to connect to it."""
        ...

    async def tracker(self) -> str: ...

    def small_disk(self, size: int) -> SmallDisk: ...


def content(length: int = LENGTH, seed: bytes = b"") -> bytes:
    return hashlib.shake_128(seed + length.to_bytes(8)).digest(length)


def metainfo_of(data: bytes, salt: bytes = SALT, piece_length: int = PIECE, authority_pem: bytes = b"") -> Metainfo:
    builder = MerkleBuilder(piece_length)
    builder.update(data)
    return build(hashlib.sha256(data).hexdigest(), *builder.finish(), piece_length, salt, authority_pem)


def piece(metainfo: Metainfo, data: bytes, index: int) -> bytes:
    return data[index * metainfo.piece_length :][: metainfo.piece_size(index)]


async def eventually(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  a status is looked at, it cannot be awaited
        await asyncio.sleep(0.01)


async def connect(handle: TorrentHandle, *sessions: PeerSession) -> None:
    for session in sessions:
        await handle.connect_peer("127.0.0.1", session.listen_port)


async def all_complete(handles: Sequence[TorrentHandle]) -> None:
    await asyncio.gather(*(handle.complete() for handle in handles))


def received(handle: TorrentHandle) -> int:
    status = handle.status()
    return status.from_agents_bytes + status.from_regionals_bytes


class PeerPlaces:
    @pytest.fixture
    def place(self, tmp_path):
        """A new folder, with bytes of a torrent's file if given."""
        count = 0

        def make(metainfo: Metainfo | None = None, data: bytes | None = None) -> Path:
            nonlocal count
            count += 1
            folder = tmp_path / f"place{count}"
            folder.mkdir()
            if metainfo is not None and data is not None:
                (folder / metainfo.name).write_bytes(data)
            return folder

        return make


async def outcome(waiting) -> Failure | None:
    try:
        await waiting
    except Failure as failure:
        return failure
    return None
