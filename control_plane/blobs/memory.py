"""Blobs in memory: for tests and for trying things out. Same contract, same failures; `capacity` bytes are the disk."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from common.clock import Clock
from common.digest import Digest
from common.identifiers import is_id
from control_plane.blobs import (
    BlobDamaged,
    BlobMissing,
    BlobReader,
    DiskFull,
    PendingUpload,
    StoredBlob,
    UploadBusy,
    UploadOffsetWrong,
    UploadUnknown,
)

_PIECE = 1 << 20


@dataclass
class _Upload:
    touched_at: datetime
    data: bytearray = field(default_factory=bytearray)
    busy: bool = False


class MemoryBlobStore:
    def __init__(self, clock: Clock, capacity: int = 1 << 30) -> None:
        self._clock = clock
        self._capacity = capacity
        self._uploads: dict[str, _Upload] = {}
        self._blobs: dict[Digest, bytes] = {}
        self.quarantined: list[Digest] = []

    async def create_upload(self, upload_id: str) -> None:
        if not is_id(upload_id):
            raise _unknown(upload_id)
        self._uploads[upload_id] = _Upload(self._clock.now())

    async def append(self, upload_id: str, offset: int, chunks: AsyncIterator[bytes], algorithm: str = "sha256") -> int:
        upload = self._find(upload_id)
        if len(upload.data) != offset:
            raise UploadOffsetWrong(
                f"upload {upload_id} ends at {len(upload.data)}, not at {offset}",
                action=f"go on at offset {len(upload.data)}",
                size=len(upload.data),
            )
        upload.busy = True
        try:
            async for chunk in chunks:
                self._take(upload, chunk)
        finally:
            upload.busy = False
            upload.touched_at = self._clock.now()
        return len(upload.data)

    def _take(self, upload: _Upload, chunk: bytes) -> None:
        used = sum(len(each.data) for each in self._uploads.values()) + sum(map(len, self._blobs.values()))
        room = max(0, self._capacity - used)
        upload.data += chunk[:room]
        if room < len(chunk):
            raise DiskFull("there is no room in the memory store", action="free space, then send the rest")

    async def upload_size(self, upload_id: str) -> int:
        if upload_id not in self._uploads:
            raise _unknown(upload_id)
        return len(self._uploads[upload_id].data)

    async def commit(self, upload_id: str, digest: Digest) -> int:
        upload = self._find(upload_id)
        data = bytes(upload.data)
        digest.verify(Digest.of(data, digest.algorithm))
        self._blobs[digest] = data
        del self._uploads[upload_id]
        return len(data)

    async def abort(self, upload_id: str) -> None:
        self._uploads.pop(upload_id, None)

    async def pending_uploads(self, older_than: datetime) -> Iterable[PendingUpload]:
        return [
            PendingUpload(upload_id, len(upload.data), upload.touched_at)
            for upload_id, upload in self._uploads.items()
            if upload.touched_at < older_than
        ]

    async def stat(self, digest: Digest) -> int | None:
        data = self._blobs.get(digest)
        return None if data is None else len(data)

    @contextlib.asynccontextmanager
    async def open(self, digest: Digest, size: int) -> AsyncIterator[_MemoryReader]:
        data = self._blobs.get(digest)
        if data is None:
            raise BlobMissing(f"nothing is stored as {digest}", action="push it again")
        if len(data) != size:
            del self._blobs[digest]
            self.quarantined.append(digest)
            raise BlobDamaged(
                f"{digest} has {len(data)} bytes instead of {size}; it was moved aside",
                action="push it again to repair it",
                digest=str(digest),
                stored_size=len(data),
                recorded_size=size,
            )
        yield _MemoryReader(data)

    async def local_path(self, digest: Digest, size: int) -> Path | None:
        async with self.open(digest, size):
            return None

    async def presigned_url(self, digest: Digest, size: int, *, expires_seconds: int) -> str | None:
        async with self.open(digest, size):
            return None

    async def list(self, after: str = "", limit: int = 1000) -> Sequence[StoredBlob]:
        later = sorted(digest for digest in self._blobs if str(digest) > after)
        return [StoredBlob(digest, len(self._blobs[digest])) for digest in later[:limit]]

    async def delete(self, digest: Digest) -> None:
        self._blobs.pop(digest, None)

    async def quarantine(self, digest: Digest, reader: BlobReader) -> None:
        if isinstance(reader, _MemoryReader) and self._blobs.get(digest) is reader.data:
            del self._blobs[digest]
            self.quarantined.append(digest)

    async def close(self) -> None:
        """Nothing to wait for."""

    def damage(self, digest: Digest, data: bytes) -> None:
        """What a bad disk does; for tests."""
        self._blobs[digest] = data

    def _find(self, upload_id: str) -> _Upload:
        upload = self._uploads.get(upload_id)
        if upload is None:
            raise _unknown(upload_id)
        if upload.busy:
            raise UploadBusy(f"another request writes to upload {upload_id}", action="try again when it has ended")
        return upload


class _MemoryReader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        for position in range(start, end, _PIECE):
            yield self.data[position : min(position + _PIECE, end)]


def _unknown(upload_id: str) -> UploadUnknown:
    return UploadUnknown(f"there is no upload {upload_id[:64]!r}", action="start a new upload")
