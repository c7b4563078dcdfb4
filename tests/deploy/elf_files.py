"""ELF files for 64 bits with only what is read of them."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def module(*fields: str) -> bytes:
    """A kernel module whose `.modinfo` has these."""
    names = b"\0.modinfo\0.shstrtab\0"
    information = b"\0".join(field.encode() for field in fields) + b"\0"
    content = b"\0" * 64 + names + information
    sections = [(0, 0, 0), (1, 64 + len(names), len(information)), (10, 64, len(names))]
    table = b"".join(struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, at, size, 0, 0, 1, 0) for name, at, size in sections)
    header = b"\x7fELF\x02\x01".ljust(40, b"\0") + struct.pack("<Q10xHHH", len(content), 64, len(sections), 2)
    return header.ljust(64, b"\0") + content[64:] + table


def program(*needed: str, text: bytes = b"") -> bytes:
    """A program that needs these libraries; none: a static one."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    places = [strings.index(name.encode()) for name in needed]
    dynamic = [(1, place) for place in places] + [(5, 0x1000 + 64 + 2 * 56), (0, 0)]
    table = b"".join(struct.pack("<qQ", *pair) for pair in dynamic)
    at = 64 + 2 * 56 + len(strings)
    segments = [(1, 0, 0x1000, at), (2, at, 0x1000 + at, len(table))]
    shown: Sequence[tuple[int, int, int, int]] = segments if needed else segments[:1]
    heads = b"".join(struct.pack("<IIQQQQQQ", kind, 4, begin, to, to, size, size, 8) for kind, begin, to, size in shown)
    header = b"\x7fELF\x02\x01".ljust(32, b"\0") + struct.pack("<Q14xHH", 64, 56, len(shown))
    return header.ljust(64, b"\0") + heads.ljust(2 * 56, b"\0") + strings + table + text
