"""Putting pieces together from contents that are held: copying, completing, verifying. Blocking: call in threads.

Invariant: `copy` and `compose` say yes only to bytes that were read back and match the piece's Merkle root; a donor
that leads to a false piece is named in the log and not used again. What a kill leaves in the file is not believed by
the next process, which verifies it (`recheck`).

Where the file system shares blocks (XFS, btrfs), copy_file_range copies nothing.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog

from common.bittorrent import metainfo as torrents
from common.bittorrent import reuse, reuse_donors
from common.bittorrent.metainfo import Metainfo
from common.bittorrent.recheck import held_pieces
from common.bittorrent.reuse import ABSENT, ZEROS, BlockMap, Part, Plan
from common.bittorrent.reuse_donors import Candidate, Source, Stopped
from common.byte_parts import MOST_BYTES, MOST_PARTS
from common.byte_ranges import Span

log = structlog.get_logger()

_NO_COPY_RANGE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})


class Composer:
    """What `find` gives: where the pieces of one content are to be had. Close it.

    fresh: the file was made just now, so it holds zeros where nothing was written.
    """

    def __init__(self, metainfo: Metainfo, plan: Plan, sources: Sequence[Source], path: Path, *, fresh: bool) -> None:
        self._metainfo = metainfo
        self._plan = plan
        self._sources = sources
        self._path = path
        self._fresh = fresh
        self._refused: set[int] = set()
        self._spoiled: set[int] = set()
        self.missing_bytes = plan.missing_bytes

    def close(self) -> None:
        """Harmless to repeat. Nothing is local any more."""
        self._sources = ()

    def local(self, indices: Iterable[int]) -> list[int]:
        """Those of the pieces of which nothing has to be fetched."""
        return [index for index in indices if self._usable(index) and not self.absent(index)]

    def batches(self, indices: Iterable[int], most_absent: float) -> list[list[int]]:
        """Pieces of which at most that share is absent, as many together as one request for parts may ask for."""
        batches: list[list[int]] = []
        spans = absent_bytes = 0
        for index in indices:
            absent = self.absent(index)
            lacking = sum(span.length for span in absent)
            if not self._usable(index) or not 0 < lacking <= most_absent * self._metainfo.piece_size(index):
                continue
            spans, absent_bytes = spans + len(absent), absent_bytes + lacking
            if not batches or spans > MOST_PARTS or absent_bytes > MOST_BYTES:
                batches.append([])
                spans, absent_bytes = len(absent), lacking
            batches[-1].append(index)
        return batches

    def absent(self, index: int) -> list[Span]:
        return self._plan.absent(*self._borders(index))

    def copy(self, index: int) -> bool:
        """Put a local piece into the file; whether it is true. Raises OSError for the file's own failures."""
        sources = self._sources
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for part in self._parts(index):
                if part.donor == ZEROS:
                    if not self._fresh:
                        _write(descriptor, bytes(part.length), part.start)
                elif part.donor >= len(sources):
                    return False
                elif not _copy(sources[part.donor], descriptor, part):
                    return self._refuse(index)
        finally:
            os.close(descriptor)
        return bool(held_pieces(self._path, self._metainfo, [index])) or self._refuse(index)

    def compose(self, index: int, fetched: bytes | memoryview) -> bytes | None:
        """The piece, made of what is held and of its absent spans' bytes; None if it is not true."""
        sources = self._sources
        piece = bytearray(self._metainfo.piece_size(index))
        start = index * self._metainfo.piece_length
        taken = 0
        for part in self._parts(index):
            room = memoryview(piece)[part.start - start :][: part.length]
            if part.donor == ABSENT:
                room[:] = fetched[taken : taken + part.length]
                taken += part.length
            elif part.donor >= len(sources):
                return None
            elif part.donor != ZEROS and not reuse_donors.read(sources[part.donor], room, part.donor_offset):
                self._refuse(index)
                return None
        if not torrents.verify_piece(self._metainfo, index, piece):
            self._refuse(index)
            return None
        return bytes(piece)

    def write(self, index: int, piece: bytes) -> None:
        """Raises OSError."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            _write(descriptor, piece, index * self._metainfo.piece_length)
        finally:
            os.close(descriptor)

    def _refuse(self, index: int) -> bool:
        """Always False. Whatever is to blame (a donor that changed, a false map), its other pieces come another way."""
        self._spoiled.add(index)
        sources = self._sources
        for number in {part.donor for part in self._parts(index) if part.donor >= 0} - self._refused:
            self._refused.add(number)
            log.warning(
                "held content not reused, a piece made of it is false",
                donor=str(sources[number].donor.digest) if sources else "",
                name=self._metainfo.name,
                piece=index,
            )
        return False

    def _usable(self, index: int) -> bool:
        if index in self._spoiled:
            return False
        return not self._refused or self._refused.isdisjoint(part.donor for part in self._parts(index))

    def _parts(self, index: int) -> list[Part]:
        return self._plan.parts(*self._borders(index))

    def _borders(self, index: int) -> tuple[int, int]:
        start = index * self._metainfo.piece_length
        return start, start + self._metainfo.piece_size(index)


def find(
    metainfo: Metainfo,
    target: BlockMap,
    candidates: Sequence[Candidate],
    path: Path,
    *,
    fresh: bool,
    stop: threading.Event,
) -> Composer:
    """Choose donors among the candidates, most likely ones first, and plan. Raises `Stopped`."""
    sources = reuse_donors.choose(target, candidates, stop)
    if stop.is_set():
        raise Stopped
    maps = [reuse_donors.block_map(source, target.block_length, stop) for source in sources]
    return Composer(metainfo, reuse.plan(target, maps), sources, path, fresh=fresh)


def _copy(source: Source, target: int, part: Part) -> bool:
    """Whether the donor had that much."""
    done, descriptor, offset = 0, source.donor.descriptor, source.phase + part.donor_offset
    try:
        while done < part.length:
            count = os.copy_file_range(descriptor, target, part.length - done, offset + done, part.start + done)
            if not count:
                return False
            done += count
    except OSError as error:
        if error.errno not in _NO_COPY_RANGE:
            raise
        buffer = bytearray(part.length - done)
        if not reuse_donors.read(source, memoryview(buffer), part.donor_offset + done):
            return False
        _write(target, buffer, part.start + done)
    return True


def _write(descriptor: int, data: bytes | bytearray, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        offset, view = offset + count, view[count:]
