"""The system calls that the filesystem store makes, one method each, and what their errors mean.

It is a class so that tests can fail or stop any single call (tests/control_plane/blobs/faults.py) and prove what is
left behind. Every method blocks and is called in a thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.durable import sync_directory
from control_plane.blobs import DiskFull, StorageFailed

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CHUNK = 1 << 20
# sync_file_range(2), Linux only; `os` has no name for it.
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)
_RANGE_WRITE = 2


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Operating system errors leave the store as its own failures."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFull(
                f"there is no room on the disk for {doing}",
                action="free space on the server, then send the rest",
                retry_after_seconds=30,
            ) from error
        raise StorageFailed(
            f"{doing} failed: {error.strerror or error}", action="try again; if it persists, look at the server's disk"
        ) from error


class Disk:
    """The real calls."""

    def create(self, path: Path) -> None:
        # 0640: a web server in our group may read what we publish (X-Accel-Redirect).
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))

    def open_for_append(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)

    def open_for_reading(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def lock(self, descriptor: int) -> bool:
        """Whether nobody else, in this process or another, holds the file for writing; then we do until we close it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def write(self, descriptor: int, buffers: Sequence[memoryview]) -> int:
        return os.writev(descriptor, buffers)

    def write_whole(self, path: Path, data: bytes) -> None:
        """Replace a small file by rename, so that nobody reads half of it. Not durable: power loss may undo it."""
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(data)
        os.replace(part, path)

    def begin_writing_back(self, descriptor: int, start: int, length: int) -> None:
        """Let the kernel write this part to the disk from now on, without waiting for it and without taking its errors
        from the later `sync`. A hint: where there is no such call, nothing happens.
        """
        if _sync_file_range is not None:
            _sync_file_range(descriptor, ctypes.c_int64(start), ctypes.c_int64(length), _RANGE_WRITE)

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def hold(self, path: Path) -> int | None:
        """Open what is about to be replaced, if anything: a file is not freed before it is closed, and freeing takes
        long (600 ms for 512 MiB on ext4 with discard), so that it is better closed when nobody waits.
        """
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None

    def publish(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def make_directory(self, directory: Path) -> None:
        """Durable, with its parents; harmless if it exists."""
        if directory.is_dir():
            return
        self.make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        sync_directory(directory.parent)

    def sync_directory(self, directory: Path) -> None:
        sync_directory(directory)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def free_bytes(self, directory: Path) -> int:
        """What an ordinary process may still write to the file system."""
        usage = os.statvfs(directory)
        return usage.f_bavail * usage.f_frsize


def chunks_of(descriptor: int) -> Iterator[bytes]:
    """The whole file from its beginning, without moving its position."""
    position = 0
    while chunk := os.pread(descriptor, _CHUNK, position):
        yield chunk
        position += len(chunk)
