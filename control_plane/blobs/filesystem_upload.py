"""One upload held for writing: the file, the lock on it and the hash of what it holds. Blocking; used in threads.

Invariant: the hash covers exactly the bytes that are in the file, also after a short write or a full disk, so that
the next append goes on where this one ended and `commit` needs no second reading. It is written beside the upload
(`<id>.hash`) when an append ends, for the next process or replica. Nothing depends on that file: one that is absent,
damaged or of another size costs a reading of the upload.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.identifiers import is_id
from control_plane.blobs import DiskFull, UploadBusy, UploadUnknown
from control_plane.blobs.disk import Disk, chunks_of, translated
from control_plane.blobs.hash_state import BlobHasher, new_hasher, resumed

_WRITE_BACK = 8 << 20
_MAX_BUFFERS = 1024  # IOV_MAX on Linux
# A hash state is about 400 bytes. States beyond this are made again from the file.
_MAX_KEPT_HASHES = 4096


class HashStates:
    """Hash states of uploads that nobody writes to now, so that the next request goes on with them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: OrderedDict[str, BlobHasher] = OrderedDict()

    def take(self, upload_id: str) -> BlobHasher | None:
        with self._lock:
            return self._states.pop(upload_id, None)

    def keep(self, upload_id: str, hasher: BlobHasher) -> None:
        with self._lock:
            self._states[upload_id] = hasher
            while len(self._states) > _MAX_KEPT_HASHES:
                self._states.popitem(last=False)


class HeldUpload:
    """Exclusive: while it is open nobody else can hold the same upload, in this process or another."""

    def __init__(self, disk: Disk, path: Path, states: HashStates, reserve_bytes: int) -> None:
        """Raises `UploadUnknown`, `UploadBusy`, `StorageFailed`."""
        self.path = path
        self._disk = disk
        self._states = states
        self._reserve_bytes = reserve_bytes
        # A cancelled request may leave while its last write still runs; the lock keeps the two from mixing.
        self._lock = threading.Lock()
        self._closed = False
        with translated("opening the upload"):
            try:
                self.descriptor = disk.open_for_append(path)
            except FileNotFoundError:
                raise unknown(path.name) from None
        try:
            self._check_ours()
        except BaseException:
            disk.close(self.descriptor)
            raise
        self.size = os.fstat(self.descriptor).st_size
        self._written_back = self.size
        # What a file beside us may already say; an append of nothing and a failed commit write none.
        self._hashed_before = self.size
        self._hasher = next((each for each in self._kept() if each is not None and each.size == self.size), None)

    def _kept(self) -> Iterator[BlobHasher | None]:
        yield self._states.take(self.path.name)
        yield self._beside()

    def _beside(self) -> BlobHasher | None:
        try:
            return resumed(hash_file(self.path).read_bytes()) if self.size else None
        except OSError:
            return None

    def _check_ours(self) -> None:
        if not self._disk.lock(self.descriptor):
            raise UploadBusy(f"another request writes to upload {self.path.name}", action="try again when it has ended")
        try:
            current = os.stat(self.path)
        except FileNotFoundError:
            raise unknown(self.path.name) from None
        if current.st_ino != os.fstat(self.descriptor).st_ino:
            raise unknown(self.path.name)

    def hasher(self, algorithm: str) -> BlobHasher:
        """The hash of all bytes so far; read from the file where this process does not have it by this algorithm."""
        if self._hasher is None or self._hasher.algorithm != algorithm:
            hasher = new_hasher(algorithm)
            with translated("reading the upload again"):
                for chunk in chunks_of(self.descriptor):
                    hasher.update(chunk)
            self._hasher = hasher
        return self._hasher

    def prepare(self, algorithm: str) -> None:
        """Hash what comes, by `algorithm` unless there is a state already: reading again costs more than a wrong
        guess.
        """
        self._hasher = self._hasher or self.hasher(algorithm)

    def write(self, chunks: Sequence[bytes]) -> None:
        """Raises `DiskFull` or `StorageFailed`; what was written before the failure counts."""
        with self._lock, translated("the upload"):
            if self._closed:
                raise UploadUnknown(f"upload {self.path.name} was closed", action="ask for its size and go on there")
            self._keep_reserve(sum(map(len, chunks)))
            hasher = self._hasher or self.hasher("sha256")
            buffers = [memoryview(chunk) for chunk in chunks if chunk]
            first = 0
            while first < len(buffers):
                written = self._disk.write(self.descriptor, buffers[first : first + _MAX_BUFFERS])
                self.size += written
                while written:
                    buffer = buffers[first]
                    hasher.update(buffer[:written])
                    if written < len(buffer):
                        buffers[first] = buffer[written:]
                        break
                    written -= len(buffer)
                    first += 1
            self._write_back()

    def _write_back(self) -> None:
        # The disk works while we receive, not while the client waits for the last answer: after 512 MiB that took 10 to
        # 20 ms instead of 80 to 90 on a fast virtual disk (ext4); it grows as disks get slower.
        if self.size - self._written_back >= _WRITE_BACK:
            self._disk.begin_writing_back(self.descriptor, self._written_back, self.size - self._written_back)
            self._written_back = self.size

    def _keep_reserve(self, coming: int) -> None:
        # The database shares the disk in small installations and must not be the one that finds it full.
        if self._reserve_bytes and self._disk.free_bytes(self.path.parent) < self._reserve_bytes + coming:
            raise DiskFull(
                f"less than the reserve of {self._reserve_bytes} bytes would be free on the disk",
                action="free space on the server, then send the rest",
                retry_after_seconds=30,
                reserve_bytes=self._reserve_bytes,
            )

    def sync(self) -> None:
        """Make the bytes durable. After a failed fsync the kernel may have dropped them while reads still show them
        (fsync(2), "ERRORS"), so the upload is given up instead of being trusted.
        """
        with translated("making the upload durable"):
            try:
                self._disk.sync(self.descriptor)
            except OSError:
                self.forget_hash()
                self._disk.remove(self.path)
                raise

    def close(self, *, finished: bool = False) -> None:
        """Let go of the upload; `finished` when its hash will not be needed again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                if self._hasher is not None and self._hasher.size == self.size and not finished:
                    self._states.keep(self.path.name, self._hasher)
                    self._write_hash(self._hasher)
            finally:
                self._disk.close(self.descriptor)

    def _write_hash(self, hasher: BlobHasher) -> None:
        """For the next process; not made durable, and a failure only costs that process a reading."""
        state = hasher.state()
        if state is not None and hasher.size != self._hashed_before:
            with contextlib.suppress(OSError):
                self._disk.write_whole(hash_file(self.path), state)

    def forget_hash(self) -> None:
        """Before the upload goes, so that death in between leaves no file of an upload that is no more."""
        with contextlib.suppress(OSError):
            self._disk.remove(hash_file(self.path))


def hash_file(upload: Path) -> Path:
    return upload.with_name(f"{upload.name}.hash")


def is_left_over(path: Path) -> bool:
    """Whether this is a file of ours beside an upload that is no more (a race, or death in a rename)."""
    upload_id, dot, rest = path.name.partition(".")
    return is_id(upload_id) and f"{dot}{rest}" in (".hash", ".hash.part") and not path.with_name(upload_id).exists()


def unknown(upload_id: str) -> UploadUnknown:
    return UploadUnknown(f"there is no upload {upload_id[:64]!r}", action="start a new upload")
