"""After a crash only the bytes say which pieces are held."""

from __future__ import annotations

import asyncio
import threading

import pytest

from common.bittorrent.recheck import held_pieces, verify_file
from tests.conformance.peer_network import PIECE, content, metainfo_of


async def test_a_whole_file_holds_every_piece(tmp_path):
    data = content()
    metainfo = metainfo_of(data)
    (tmp_path / "blob").write_bytes(data)
    assert await verify_file(tmp_path / "blob", metainfo) == frozenset(range(metainfo.piece_count))


async def test_no_file_holds_nothing(tmp_path):
    assert await verify_file(tmp_path / "blob", metainfo_of(content())) == frozenset()


async def test_holes_damage_and_a_short_end_are_found(tmp_path):
    data = content()
    metainfo = metainfo_of(data)
    damaged = bytearray(data)
    damaged[3 * PIECE] ^= 1
    damaged[5 * PIECE : 6 * PIECE] = bytes(PIECE)
    (tmp_path / "blob").write_bytes(damaged[:-1])
    missing = {3, 5, metainfo.piece_count - 1}
    assert await verify_file(tmp_path / "blob", metainfo) == frozenset(range(metainfo.piece_count)) - missing


async def test_bytes_behind_the_end_do_not_matter(tmp_path):
    data = content(PIECE + 1)
    (tmp_path / "blob").write_bytes(data + b"more")
    assert await verify_file(tmp_path / "blob", metainfo_of(data)) == {0, 1}


async def test_a_file_that_cannot_be_read_is_an_error_not_an_empty_one(tmp_path):
    with pytest.raises(OSError, match="directory"):
        await verify_file(tmp_path, metainfo_of(content()))


async def test_cancelling_stops_the_reading(tmp_path):
    data = content()
    (tmp_path / "blob").write_bytes(data)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await verify_file(tmp_path / "blob", metainfo_of(data))
    stop = threading.Event()
    stop.set()
    assert held_pieces(tmp_path / "blob", metainfo_of(data), range(10), stop) == frozenset()
