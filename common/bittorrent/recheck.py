"""Which pieces of a file are good: what a restart asks before it adds a torrent with `have`.

A piece that libtorrent announced is not yet a piece in the file: it writes behind. Measured after kill -9 in the middle
of 256 MiB (libtorrent 2.1.1, pread, 16 MiB of write queue, tmpfs): of 200 announced pieces 57 were not in the file, of
500 15; the page cache kept the others. So nothing but the bytes themselves says what is held.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from common.bittorrent.metainfo import Metainfo, verify_piece

# Each thread holds one piece; hashing leaves the interpreter lock, so two keep two cores busy and leave the rest alone.
_THREADS = 2


async def verify_file(path: Path, metainfo: Metainfo) -> frozenset[int]:
    """Indices of the pieces that the file holds; none if there is no file. Raises OSError if it cannot be read.

    Cancelling it stops it within one piece per thread.
    """
    stop = threading.Event()
    shares = [range(first, metainfo.piece_count, _THREADS) for first in range(_THREADS)]
    try:
        found = await asyncio.gather(*(asyncio.to_thread(held_pieces, path, metainfo, share, stop) for share in shares))
    finally:
        stop.set()
    return frozenset().union(*found)


def held_pieces(
    path: Path, metainfo: Metainfo, indices: Iterable[int], stop: threading.Event | None = None
) -> frozenset[int]:
    """Which of `indices` the file holds, looking until `stop` is set. Blocking."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return frozenset()
    try:
        buffer = bytearray(metainfo.piece_length)
        running = itertools.takewhile(lambda _: stop is None or not stop.is_set(), indices)
        return frozenset(index for index in running if _holds(descriptor, metainfo, index, buffer))
    finally:
        os.close(descriptor)


def _holds(descriptor: int, metainfo: Metainfo, index: int, buffer: bytearray) -> bool:
    view = memoryview(buffer)[: metainfo.piece_size(index)]
    offset = index * metainfo.piece_length
    done = 0
    while done < len(view) and (count := os.preadv(descriptor, [view[done:]], offset + done)):
        done += count
    return done == len(view) and verify_piece(metainfo, index, view)
