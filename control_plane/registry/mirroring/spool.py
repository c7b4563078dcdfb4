"""A file that grows at one end while many read it; it has no name, so nothing is left of it whatever happens.

Why a file of its own: what the blob store is taking in can be read nowhere (on S3 it is parts), and memory is too small
for a layer. It costs a copy in the page cache; the file is gone when the last reader is.
"""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from pathlib import Path

from control_plane.blobs import DiskFull, StorageFailed

_NOWAIT = getattr(os, "RWF_NOWAIT", 0)


class Spool:
    """Raises `DiskFull`, `StorageFailed`, also when it is made."""

    def __init__(self, directory: Path) -> None:
        try:
            # Unlinked from the beginning (O_TMPFILE where the file system knows it).
            self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115  closed by `close`
        except OSError as error:
            raise _failure(error) from error
        self.size = 0

    async def append(self, data: bytes) -> None:
        # In a thread: writing waits for the disk when too much is dirty.
        await asyncio.to_thread(self._write, data)
        self.size += len(data)

    async def read(self, start: int, end: int) -> bytes:
        """What is there of it, at least a byte; it was written a moment ago, so it mostly comes from memory."""
        data = bytearray(end - start)
        count = 0
        if _NOWAIT:
            try:
                count = os.preadv(self._file.fileno(), [data], start, _NOWAIT)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP):
                    raise _failure(error) from error
        if not count:
            return await asyncio.to_thread(os.pread, self._file.fileno(), end - start, start)
        del data[count:]
        return bytes(data)

    def close(self) -> None:
        self._file.close()

    def _write(self, data: bytes) -> None:
        view, at = memoryview(data), self.size
        try:
            while view:
                written = os.pwrite(self._file.fileno(), view, at)
                view, at = view[written:], at + written
        except OSError as error:
            raise _failure(error) from error


def _failure(error: OSError) -> DiskFull | StorageFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull("there is no room for what is being fetched", action="free space, then pull again")
    return StorageFailed(f"the disk failed while fetching: {error.strerror}", action="see the server's log")
