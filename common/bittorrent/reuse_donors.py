"""Held contents as donors of another one's blocks: which have most in common with it, and reading them. Blocking.

Invariant: a donor is opened once, so its eviction disturbs nothing, and a damaged sector is a donor that does not have
it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.bittorrent import reuse
from common.bittorrent.reuse import BlockMap, BlockMapBuilder
from common.digest import Digest

# Hashing a whole donor takes about 1 s/GiB, and once more for each phase; these are the most that are worth it.
_MOST_DONORS = 3
_MOST_SOURCES = 12
_MOST_CANDIDATES = 64
_SAMPLES = 128
# Of the samples: below this a donor holds next to nothing of the content.
_LEAST_HITS = 2
# Files in a tar, and blocks of small file systems, begin at multiples of 512 bytes; what was moved by less than a block
# is found in the donor's blocks counted from there on.
_PHASE = 512
# 25 MB of set; a larger map is looked at in steps.
_MOST_KNOWN = 1 << 18
_CHUNK = 4 << 20
# Knuth's multiplier: samples spread over the whole donor, in step with no period of its content.
_SPREAD = 2654435761


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


@dataclass(frozen=True, slots=True)
class Source:
    """A donor read in blocks from byte `phase` on. `hits`: how many of its samples are in the wanted content."""

    donor: Donor
    phase: int
    hits: int


class Stopped(Exception):
    """The caller's event was set."""


def choose(target: BlockMap, candidates: Sequence[Candidate], stop: threading.Event) -> list[Source]:
    """Those that have most in common, by samples of their blocks, wherever in the target these lie. What is not moved
    comes first.
    """
    step = -(-len(target.hashes) // _MOST_KNOWN)
    known = frozenset(target.hashes[::step])
    promising: list[list[Source]] = []
    for candidate in candidates[:_MOST_CANDIDATES]:
        donor = _open(candidate)
        if donor is not None and not stop.is_set():
            sampled = [_sampled(donor, phase, target.block_length, known) for phase in _phases(target.block_length)]
            promising.append([source for source in sampled if source.hits * step >= _LEAST_HITS])
    promising.sort(key=lambda sources: -sum(source.hits for source in sources))
    return [source for sources in promising[:_MOST_DONORS] for source in sources][:_MOST_SOURCES]


def _phases(block_length: int) -> range:
    return range(0, block_length, max(_PHASE, block_length // 8))


def _sampled(donor: Donor, phase: int, block_length: int, known: frozenset[int]) -> Source:
    """With up to `_SAMPLES` blocks that are not zeros."""
    blocks = (donor.length - phase) // block_length
    zeros, buffer, hits = bytes(block_length), bytearray(block_length), 0
    for number in range(min(blocks, _SAMPLES)):
        index = number * _SPREAD % blocks
        if read(Source(donor, phase, 0), memoryview(buffer), index * block_length) and buffer != zeros:
            (value,) = reuse.hash_blocks(memoryview(buffer), block_length)
            hits += int.from_bytes(value, "little") in known
    return Source(donor, phase, hits)


def block_map(source: Source, block_length: int, stop: threading.Event) -> BlockMap:
    """Of all of the source. Raises `Stopped`."""
    builder = BlockMapBuilder(block_length)
    for start in range(source.phase, source.donor.length, _CHUNK):
        if stop.is_set():
            raise Stopped
        builder.update(os.pread(source.donor.descriptor, _CHUNK, start))
    return builder.finish()


def _open(candidate: Candidate) -> Donor | None:
    """None if it is gone, or cannot be read."""
    try:
        return Donor(candidate)
    except OSError:
        return None


def read(source: Source, room: memoryview, offset: int) -> bool:
    """Fill `room` from there on; whether the donor had that much."""
    done = 0
    try:
        while done < len(room) and (
            count := os.preadv(source.donor.descriptor, [room[done:]], source.phase + offset + done)
        ):
            done += count
    except OSError:  # a donor's bad sector is a donor that does not have it
        return False
    return done == len(room)
