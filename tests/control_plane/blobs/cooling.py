"""Doing to a file what years do to a disk, and taking it out of memory."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pace import BUSY_SECONDS

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def folder_on_a_disk() -> Iterator[Path]:
    """What pytest would give may be on tmpfs, where nothing is ever cold."""
    with tempfile.TemporaryDirectory(prefix="longshore-cold-", dir="/var/tmp") as directory:
        yield Path(directory)


def is_in_memory(path: Path) -> bool:
    """Whether any page of it is (mincore(2)). To read it with RWF_NOWAIT would have the kernel fetch it."""
    pages = (path.stat().st_size + mmap.PAGESIZE - 1) // mmap.PAGESIZE
    resident = (ctypes.c_ubyte * pages)()
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        start = ctypes.c_char.from_buffer(mapped)
        try:
            address = ctypes.c_void_p(ctypes.addressof(start))
            assert _libc.mincore(address, ctypes.c_size_t(len(mapped)), resident) == 0
        finally:
            del start
    return any(each & 1 for each in resident)


def forget(path: Path) -> bool:
    """Whether all of it left memory; pages that wait elsewhere in the kernel need another try."""
    end = time.monotonic() + BUSY_SECONDS
    while time.monotonic() < end:
        descriptor = os.open(path, os.O_RDWR)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
        if not is_in_memory(path):
            return True
        time.sleep(0.02)
    return False


def tells_what_is_in_memory(directory: Path) -> bool:
    """Whether the file system knows RWF_NOWAIT; tmpfs and NFS do not."""
    probe = directory / "probe"
    probe.write_bytes(b"x")
    with probe.open("rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            probe.unlink()
    return True


def cool(path: Path) -> None:
    """Out of the page cache, as after a restart; skips where the file system does not say what is there."""
    if not tells_what_is_in_memory(path.parent):
        pytest.skip("the file system does not tell what is in memory")
    assert forget(path)


def rot(path: Path, at: int) -> None:
    descriptor = os.open(path, os.O_RDWR)
    [byte] = os.pread(descriptor, 1, at)
    os.pwrite(descriptor, bytes([byte ^ 1]), at)
    os.close(descriptor)
