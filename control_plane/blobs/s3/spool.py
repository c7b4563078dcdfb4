"""Bytes on their way to the store: one part of an upload, in memory while small, in an unnamed file when not.

That keeps the memory of a process flat however many uploads it takes and however large their parts have become.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from control_plane.blobs.disk import translated

_IN_MEMORY = 256 << 10
_PIECE = 1 << 20


class Spool:
    """Raises `DiskFull`, `StorageFailed` where it is written."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self.size = 0
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115  closed by `close`
            _IN_MEMORY, dir=None if directory is None else str(directory)
        )

    def write(self, data: bytes | memoryview) -> None:
        with translated("an upload's bytes on their way to the object store"):
            self._file.seek(self.size)
            self._file.write(data)
        self.size += len(data)

    def body(self) -> IO[bytes]:
        """All of it, from the beginning, until it is written to again."""
        self._file.seek(0)
        return self._file

    def pieces(self, limit: int | None = None) -> Iterator[bytes]:
        left = self.size if limit is None else limit
        self._file.seek(0)
        while left and (piece := self._file.read(min(_PIECE, left))):
            left -= len(piece)
            yield piece

    def after(self, head: bytes, limit: int) -> Spool:
        """A new one: `head` and then the first `limit` bytes of this."""
        joined = Spool(self._directory)
        joined.write(head)
        for piece in self.pieces(limit):
            joined.write(piece)
        return joined

    def close(self) -> None:
        self._file.close()
