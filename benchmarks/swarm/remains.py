"""What lies on a service's disk beside what it holds.

A content that is held is a file whose name is its digest beneath a folder named after the algorithm. Every other large
file must be the same inode (a swarm's file) or it is a stray: something begun and never ended, or left behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HELD = re.compile(r".*/sha256/[0-9a-f]{2}/[0-9a-f]{64}")
# Metainfo, journals, keys and logs are smaller; databases have their own names.
_SMALL_BYTES = 128 << 10
_DATABASES = (".db", ".db-wal", ".db-shm", ".sqlite", ".sqlite-wal", ".sqlite-shm", ".sqlite3", ".log")


@dataclass(frozen=True)
class Remains:
    """`strays`: paths relative to the data directory. Bytes as the disk counts them, each inode once."""

    held: frozenset[Path]
    held_bytes: int
    other_bytes: int
    strays: tuple[str, ...]


def remains(data: Path) -> Remains:
    found = [(path, path.stat()) for path in _files(data)]
    held = {status.st_ino: status.st_blocks * 512 for path, status in found if _HELD.fullmatch(str(path))}
    other = {status.st_ino: status.st_blocks * 512 for _, status in found if status.st_ino not in held}
    strays = tuple(
        str(path.relative_to(data))
        for path, status in found
        if status.st_ino not in held and _is_large(path, status.st_size)
    )
    contents = frozenset(path for path, _ in found if _HELD.fullmatch(str(path)))
    return Remains(contents, sum(held.values()), sum(other.values()), strays)


def _is_large(path: Path, size: int) -> bool:
    return size > _SMALL_BYTES and not path.name.endswith(_DATABASES)


def _files(data: Path) -> Iterator[Path]:
    for path in data.rglob("*"):
        # Services that run rename and remove while this looks.
        if path.is_file() and not path.is_symlink() and path.exists():
            yield path
