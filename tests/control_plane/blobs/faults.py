"""A disk that fails or dies on cue, to prove what the filesystem store leaves behind."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from control_plane.blobs.disk import Disk


class Died(Exception):
    """The process is gone: nothing after this call happens."""


class FaultyDisk(Disk):
    """`before(name)` is asked ahead of each call and may raise; `called` are the names so far."""

    def __init__(self, before: Callable[[str, int], None] = lambda name, number: None) -> None:
        self.before = before
        self.called: list[str] = []

    def _ask(self, name: str) -> None:
        self.called.append(name)
        self.before(name, len(self.called))

    def create(self, path: Path) -> None:
        self._ask("create")
        super().create(path)

    def open_for_append(self, path: Path) -> int:
        self._ask("open_for_append")
        return super().open_for_append(path)

    def write(self, descriptor: int, buffers: Sequence[memoryview]) -> int:
        self._ask("write")
        return super().write(descriptor, buffers)

    def write_whole(self, path: Path, data: bytes) -> None:
        self._ask("write_whole")
        super().write_whole(path, data)

    def sync(self, descriptor: int) -> None:
        self._ask("sync")
        super().sync(descriptor)

    def publish(self, source: Path, target: Path) -> None:
        self._ask("publish")
        super().publish(source, target)

    def make_directory(self, directory: Path) -> None:
        self._ask("make_directory")
        super().make_directory(directory)

    def sync_directory(self, directory: Path) -> None:
        self._ask("sync_directory")
        super().sync_directory(directory)

    def remove(self, path: Path) -> None:
        self._ask("remove")
        super().remove(path)


class DyingDisk(FaultyDisk):
    """Dies at call number `last`: it and everything after it raise `Died`."""

    def __init__(self, last: int) -> None:
        super().__init__(self._die)
        self._last = last

    def _die(self, name: str, number: int) -> None:
        if number >= self._last:
            raise Died(name)


class SmallDisk(FaultyDisk):
    """Room for `room` bytes; writes what fits, as a real full disk does, then ENOSPC."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, descriptor: int, buffers: Sequence[memoryview]) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fitting: list[memoryview] = []
        left = self.room
        for buffer in buffers:
            fitting.append(buffer[:left])
            left -= len(fitting[-1])
            if left == 0:
                break
        written = super().write(descriptor, fitting)
        self.room -= written
        return written


def fail(name: str, number: int) -> Callable[[str, int], None]:
    """Every call of `name` fails with the errno `number`."""

    def before(called: str, _position: int) -> None:
        if called == name:
            raise OSError(number, os.strerror(number))

    return before
