"""Sets of pieces as integers, bit i for piece i: unions over hundreds of hosts cost microseconds; pure."""

from __future__ import annotations

from collections.abc import Iterable


def full(count: int) -> int:
    return (1 << count) - 1


def of(pieces: Iterable[int], count: int) -> int:
    """Pieces outside of `count` are left out."""
    bits = bytearray(-(-count // 8))
    for piece in pieces:
        if 0 <= piece < count:
            bits[piece >> 3] |= 1 << (piece & 7)
    return int.from_bytes(bits, "little")


def of_range(run: range) -> int:
    return (1 << run.stop) - (1 << run.start) if run else 0


def first_run(mask: int, most: int, start: int = 0) -> range | None:
    """The first adjacent pieces of `mask` from `start` on, at most `most` of them; None if there are none."""
    rest = mask >> start
    if rest == 0:
        return None
    skipped = (rest & -rest).bit_length() - 1
    rest >>= skipped
    length = (~rest & (rest + 1)).bit_length() - 1
    first = start + skipped
    return range(first, first + min(length, most))
