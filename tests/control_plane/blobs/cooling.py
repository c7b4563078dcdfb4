"""Doing to a file what years do to a disk, and taking it out of memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def forget(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def cool(path: Path) -> None:
    """Out of the page cache, as after a restart; skips where the file system keeps all in memory or does not say."""
    # To ask of a page has the kernel read it, so another file is asked for.
    probe = path.with_name("probe")
    probe.write_bytes(b"x")
    forget(probe)
    with probe.open("rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except BlockingIOError:
            forget(path)
            return
        except OSError:
            pass
        finally:
            probe.unlink()
    pytest.skip("nothing leaves the page cache here")


def rot(path: Path, at: int) -> None:
    descriptor = os.open(path, os.O_RDWR)
    [byte] = os.pread(descriptor, 1, at)
    os.pwrite(descriptor, bytes([byte ^ 1]), at)
    os.close(descriptor)
