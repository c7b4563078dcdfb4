"""Putting pieces together from contents that are held: choosing donors, copying, verifying. Blocking: call in threads.

Invariant: `copy` and `compose` say yes only to bytes that were read back and match the piece's Merkle root. A donor is
opened once, so its eviction disturbs nothing; one that leads to a false piece is named in the log and not used again.
What a kill leaves in the file is not believed by the next process, which verifies it (`recheck`).

Where the file system shares blocks (XFS, btrfs), copy_file_range copies nothing.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from common.bittorrent import metainfo as torrents
from common.bittorrent import reuse
from common.bittorrent.metainfo import Metainfo
from common.bittorrent.recheck import held_pieces
from common.bittorrent.reuse import ABSENT, ZEROS, BlockMap, BlockMapBuilder, Part, Plan
from common.byte_parts import MOST_BYTES, MOST_PARTS
from common.byte_ranges import Span
from common.digest import Digest

log = structlog.get_logger()

# Hashing a whole donor takes about 1 s/GiB; these are the most that are worth it for one content.
_MOST_DONORS = 3
_MOST_CANDIDATES = 64
_SAMPLES = 256
# Of the samples: below this a donor holds next to nothing of the content.
_LEAST_HITS = 4
# 25 MB of set; a larger map is looked at in steps.
_MOST_KNOWN = 1 << 18
_READ = 4 << 20
_NO_COPY_RANGE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A verified content that may have something in common with the wanted one."""

    digest: Digest
    path: Path


class Donor:
    """An open file, closed when nobody has it in hand any more: a thread that its caller abandoned still reads from
    this file, and never from another one that got the same number.
    """

    def __init__(self, candidate: Candidate) -> None:
        """Raises OSError."""
        self.digest = candidate.digest
        self.descriptor = os.open(candidate.path, os.O_RDONLY | os.O_CLOEXEC)
        self.length = os.fstat(self.descriptor).st_size

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class Stopped(Exception):
    """The caller's event was set."""


class Composer:
    """What `find` gives: where the pieces of one content are to be had. Close it.

    fresh: the file was made just now, so it holds zeros where nothing was written.
    """

    def __init__(self, metainfo: Metainfo, plan: Plan, donors: Sequence[Donor], path: Path, *, fresh: bool) -> None:
        self._metainfo = metainfo
        self._plan = plan
        self._donors = donors
        self._path = path
        self._fresh = fresh
        self._refused: set[int] = set()
        self._spoiled: set[int] = set()
        self.missing_bytes = plan.missing_bytes

    def close(self) -> None:
        """Harmless to repeat. Nothing is local any more."""
        self._donors = ()

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
        donors = self._donors
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for part in self._parts(index):
                if part.donor == ZEROS:
                    if not self._fresh:
                        _write(descriptor, bytes(part.length), part.start)
                elif part.donor >= len(donors):
                    return False
                elif not _copy(donors[part.donor].descriptor, part.donor_offset, descriptor, part):
                    return self._refuse(index)
        finally:
            os.close(descriptor)
        return bool(held_pieces(self._path, self._metainfo, [index])) or self._refuse(index)

    def compose(self, index: int, fetched: bytes | memoryview) -> bytes | None:
        """The piece, made of what is held and of its absent spans' bytes; None if it is not true."""
        donors = self._donors
        piece = bytearray(self._metainfo.piece_size(index))
        start = index * self._metainfo.piece_length
        taken = 0
        for part in self._parts(index):
            room = memoryview(piece)[part.start - start :][: part.length]
            if part.donor == ABSENT:
                room[:] = fetched[taken : taken + part.length]
                taken += part.length
            elif part.donor >= len(donors):
                return None
            elif part.donor != ZEROS and not _read(donors[part.donor].descriptor, room, part.donor_offset):
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
        donors = self._donors
        for number in {part.donor for part in self._parts(index) if part.donor >= 0} - self._refused:
            self._refused.add(number)
            log.warning(
                "held content not reused, a piece made of it is false",
                donor=str(donors[number].digest) if donors else "",
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
    donors = _choose(target, candidates, stop)
    if stop.is_set():
        raise Stopped
    maps = [_map(donor, target.block_length, stop) for donor in donors]
    return Composer(metainfo, reuse.plan(target, maps), donors, path, fresh=fresh)


def _choose(target: BlockMap, candidates: Sequence[Candidate], stop: threading.Event) -> list[Donor]:
    """Those that have most in common, by a sample of their blocks, wherever in the target these lie."""
    step = -(-len(target.hashes) // _MOST_KNOWN)
    known = frozenset(target.hashes[::step])
    scored: list[tuple[int, int, Donor]] = []
    for number, candidate in enumerate(candidates[:_MOST_CANDIDATES]):
        donor = _open(candidate)
        if donor is None:
            continue
        hits = 0 if stop.is_set() else _hits(donor, target.block_length, known) * step
        scored.append((-hits, number, donor))
    scored.sort(key=lambda one: one[:2])
    return [donor for hits, _, donor in scored[:_MOST_DONORS] if -hits >= _LEAST_HITS]


def _hits(donor: Donor, block_length: int, known: frozenset[int]) -> int:
    """Of up to `_SAMPLES` blocks that are not zeros."""
    blocks = donor.length // block_length
    zeros, buffer, hits = bytes(block_length), bytearray(block_length), 0
    for index in range(0, blocks, max(blocks // _SAMPLES, 1)):
        if _read(donor.descriptor, memoryview(buffer), index * block_length) and buffer != zeros:
            (value,) = reuse.hash_blocks(memoryview(buffer), block_length)
            hits += int.from_bytes(value, "little") in known
    return hits


def _map(donor: Donor, block_length: int, stop: threading.Event) -> BlockMap:
    builder = BlockMapBuilder(block_length)
    for start in range(0, donor.length, _READ):
        if stop.is_set():
            raise Stopped
        builder.update(os.pread(donor.descriptor, _READ, start))
    return builder.finish()


def _open(candidate: Candidate) -> Donor | None:
    """None if it is gone, or cannot be read."""
    try:
        return Donor(candidate)
    except OSError:
        return None


def _copy(source: int, offset: int, target: int, part: Part) -> bool:
    """Whether the donor had that much."""
    done = 0
    try:
        while done < part.length:
            count = os.copy_file_range(source, target, part.length - done, offset + done, part.start + done)
            if not count:
                return False
            done += count
    except OSError as error:
        if error.errno not in _NO_COPY_RANGE:
            raise
        buffer = bytearray(part.length - done)
        if not _read(source, memoryview(buffer), offset + done):
            return False
        _write(target, buffer, part.start + done)
    return True


def _read(descriptor: int, room: memoryview, offset: int) -> bool:
    done = 0
    try:
        while done < len(room) and (count := os.preadv(descriptor, [room[done:]], offset + done)):
            done += count
    except OSError:  # a donor's bad sector is a donor that does not have it
        return False
    return done == len(room)


def _write(descriptor: int, data: bytes | bytearray, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        offset, view = offset + count, view[count:]
