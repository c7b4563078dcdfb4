"""Verified content on this host's disk, by digest: `sha256/ab/<hex>`, beside `partial/` for what is on its way.

Invariant: a name under `sha256/` (or `sha512/`) exists only if the whole file was hashed, matched, and was fsynced
first; nobody reads a content from anywhere else. Publishing links, so the file that a swarm seeds and the cached one
share their bytes. As the bytes are durable before the name is, no crash leaves a name of other bytes.

What leaves, and when, is decided in `eviction`; the order of use is kept here and survives a restart in the files'
times.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import structlog

from agent.publication import Publication
from common.digest import Digest, DigestInvalid, DigestMismatch, Hasher
from common.errors import Unavailable
from common.water_marks import WaterMarks, limit_of

log = structlog.get_logger()

_CHUNK = 1 << 20
_ALGORITHMS = ("sha256", "sha512")


class DiskFull(Unavailable):
    code = "disk_full"


@contextlib.contextmanager
def full_disk_is_a_failure(directory: Path) -> Iterator[None]:
    """Turns the kernel's ENOSPC and EDQUOT into `DiskFull`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(directory) from error
        raise


def disk_full(directory: Path, needed_bytes: int = 0) -> DiskFull:
    needs = f"; {needed_bytes} bytes are needed" if needed_bytes else ""
    return DiskFull(
        f"the disk of {directory} is full{needs}",
        action="free space on it, or lower what is assigned; it is tried again",
        retry_after_seconds=10,
    )


def free_bytes(directory: Path) -> int:
    return shutil.disk_usage(directory).free


class ContentCache:
    """`limit_bytes` and `limit_percent` (of the disk) 0: as much as the disk holds. `reserve_bytes` stays free on the
    disk. The water marks are percents of the limit (common/water_marks.py).
    """

    def __init__(
        self,
        root: Path,
        *,
        limit_bytes: int = 0,
        limit_percent: float = 0.0,
        high_percent: float = 90.0,
        low_percent: float = 80.0,
        reserve_bytes: int = 64 << 20,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self.root = root
        self._limit_percent = limit_percent
        self.marks = WaterMarks(limit_bytes, high_percent, low_percent)
        self._reserve_bytes = reserve_bytes
        self._free = free
        self._publication = Publication()
        self._sizes: dict[Digest, int] = {}  # in order of use, least recent first

    async def open(self) -> None:
        """Make the folders, remove strays, hash again what a crash may have left half published."""
        await asyncio.to_thread(self._scan)
        if self._limit_percent:
            disk_bytes = (await asyncio.to_thread(shutil.disk_usage, self.root)).total
            limit = limit_of(self.marks.limit_bytes, self._limit_percent, disk_bytes)
            self.marks = replace(self.marks, limit_bytes=limit)

    @property
    def held(self) -> frozenset[Digest]:
        return frozenset(self._sizes)

    @property
    def used_bytes(self) -> int:
        return sum(self._sizes.values())

    def find(self, digest: Digest) -> Path | None:
        """The verified file, now the most recently used."""
        size = self._sizes.pop(digest, None)
        if size is None:
            return None
        path = self._path(digest)
        try:
            os.utime(path)  # a restart reads the order of use from the files' times
        except FileNotFoundError:
            log.error("content vanished from the cache", digest=str(digest))
            return None
        self._sizes[digest] = size
        return path

    def held_files(self, digests: Iterable[Digest]) -> list[tuple[Digest, Path, int]]:
        """Those of them that are held, with their files and sizes; looking is not using."""
        return [(digest, self._path(digest), self._sizes[digest]) for digest in digests if digest in self._sizes]

    async def open_held(self, digest: Digest) -> BinaryIO | None:
        """The verified file, to be closed by the caller; None if it is not held. Eviction does not disturb it."""
        path = self.find(digest)
        if path is None:
            return None
        try:
            return await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError:
            return None

    def partial(self, digest: Digest) -> Path:
        """Where a content may be gathered; nobody reads it from there."""
        return self.root / "partial" / f"{digest.algorithm}-{digest.hex}"

    async def publish(self, digest: Digest, size_bytes: int, source: Path) -> Path:
        """Hash `source`, make it durable and show it. Raises `DigestMismatch` or `DiskFull`; then nothing is shown.

        `source` stays where it is. Harmless to repeat.
        """
        path = await asyncio.to_thread(self._publish, digest, size_bytes, source)
        self._sizes[digest] = size_bytes
        return path

    async def publish_bytes(self, digest: Digest, chunks: Sequence[bytes]) -> Path:
        """The same for a content in memory; nothing stays where it was gathered."""
        path = await asyncio.to_thread(self._publish_bytes, digest, chunks)
        self._sizes[digest] = sum(map(len, chunks))
        return path

    async def drop(self, digest: Digest) -> None:
        """Forget a content. Its bytes stay on disk while a swarm's file shares them."""
        self._sizes.pop(digest, None)
        await asyncio.to_thread(self._path(digest).unlink, missing_ok=True)

    def lacking_bytes(self, size_bytes: int) -> int:
        """How much must go before `size_bytes` more fit; 0 when they do."""
        over_limit = self.marks.over_limit(self.used_bytes + size_bytes)
        over_disk = size_bytes + self._reserve_bytes - self._free(self.root)
        return max(over_limit, over_disk, 0)

    def evictable(self, keep: Collection[Digest]) -> list[Digest]:
        """Least recently used first."""
        return [digest for digest in self._sizes if digest not in keep]

    async def forget_partials(self, keep: Collection[Digest]) -> None:
        """Remove what was begun for contents that nobody wants any more."""
        wanted = {self.partial(digest) for digest in keep}

        def remove() -> None:
            for path in (self.root / "partial").iterdir():
                if path not in wanted:
                    path.unlink(missing_ok=True)

        await asyncio.to_thread(remove)

    def _path(self, digest: Digest) -> Path:
        return self.root / digest.algorithm / digest.hex[:2] / digest.hex

    def _publish(self, digest: Digest, size_bytes: int, source: Path) -> Path:
        path = self._path(digest)
        verify_file(source, digest, size_bytes)
        with full_disk_is_a_failure(self.root):
            self._publication.link(source, path)
        return path

    def _publish_bytes(self, digest: Digest, chunks: Sequence[bytes]) -> Path:
        hasher = Hasher(digest.algorithm)
        for chunk in chunks:
            hasher.update(chunk)
        digest.verify(hasher.digest())
        path, source = self._path(digest), self.partial(digest)
        try:
            with full_disk_is_a_failure(self.root):
                with source.open("wb", buffering=0) as file:
                    for chunk in chunks:
                        write_all(file, chunk)
                self._publication.link(source, path)
        finally:
            source.unlink(missing_ok=True)
        return path

    def _scan(self) -> None:
        for name in ("partial", *_ALGORITHMS):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        found = [(path.stat(), path) for name in _ALGORITHMS for path in sorted((self.root / name).glob("*/*"))]
        for status, path in sorted(found, key=lambda pair: pair[0].st_mtime):
            digest = _digest_of(path)
            if digest is None or self._path(digest) != path:
                log.warning("stray file removed from the cache", path=str(path))
                path.unlink()
            else:
                self._sizes[digest] = status.st_size


def verify_file(path: Path, digest: Digest, size_bytes: int) -> None:
    """Blocking. Raises `DigestMismatch` unless the whole file has that size and digest."""
    hasher = Hasher(digest.algorithm)
    with path.open("rb") as file:
        actual_bytes = os.fstat(file.fileno()).st_size
        if actual_bytes != size_bytes:
            raise DigestMismatch(
                f"the content has {actual_bytes} bytes, not {size_bytes}",
                action="fetch it again; it was cut off or is not the content it claims to be",
                expected=str(digest),
            )
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    digest.verify(hasher.digest())


def write_all(file: FileIO, data: bytes) -> None:
    """A raw file may take less than it was given, first of all when the disk is nearly full."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _digest_of(path: Path) -> Digest | None:
    try:
        return Digest.parse(f"{path.parent.parent.name}:{path.name}")
    except DigestInvalid:
        return None
