"""Blobs in a directory.

    blobs/sha256/ab/abcd...   published, immutable; only ever replaced as a whole
    uploads/<id>              growing; its size is the offset at which the next append starts
    uploads/<id>.hash         the hash of its bytes so far, for the next process; may be absent
    damaged/<digest>-<n>      moved aside because it was not what the records say

Invariant: a name under `blobs/` appears by rename(2) after its content was verified and made durable, so it is whole
whenever it is there.

Speed: bytes are written and hashed in the same thread (one pass over warm cache), 1 MiB at a time, while the event loop
receives the next 1 MiB. Reads that the page cache can answer run in the event loop without a thread (measured 0.27
against 0.63 CPU seconds a GB); what must come from the disk goes to a thread.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from common.digest import Digest
from common.identifiers import is_id
from control_plane.blobs import (
    BlobDamaged,
    BlobMissing,
    BlobReader,
    PendingUpload,
    StorageFailed,
    StoredBlob,
    UploadOffsetWrong,
    UploadUnknown,
)
from control_plane.blobs.disk import Disk, translated
from control_plane.blobs.filesystem_listing import stored_after
from control_plane.blobs.filesystem_reader import FileReader
from control_plane.blobs.filesystem_upload import HashStates, HeldUpload, hash_file, is_left_over, unknown
from control_plane.blobs.open_files import OpenFiles
from control_plane.blobs.threads import BlobThreads, pour

log = structlog.get_logger()


class FilesystemBlobStore:
    """`reserve_bytes`: appends are refused when less than this would be free. `threads` bounds concurrent disk work.
    `hash_cold`: whole blobs that come from the disk and are sent by the kernel are hashed on the way.
    """

    def __init__(
        self,
        root: Path,
        *,
        reserve_bytes: int = 64 << 20,
        threads: int = 16,
        disk: Disk | None = None,
        hash_cold: bool = True,
    ) -> None:
        self._root = root
        self._uploads = root / "uploads"
        self._damaged = root / "damaged"
        self._reserve_bytes = reserve_bytes
        self._disk = disk or Disk()
        self._states = HashStates()
        self._threads = BlobThreads(threads)
        self._open_files = OpenFiles()
        self._wrong = self._set_aside if hash_cold else None
        with translated("making the store's directories"):
            for directory in (self._uploads, self._damaged, root / "blobs"):
                self._disk.make_directory(directory)

    async def create_upload(self, upload_id: str) -> None:
        path = self._upload_path(upload_id)
        with translated("a new upload"):
            await self._threads.run(self._disk.create, path)

    async def append(self, upload_id: str, offset: int, chunks: AsyncIterator[bytes], algorithm: str = "sha256") -> int:
        upload = await self._threads.run(self._hold_at, upload_id, offset, algorithm, undo=HeldUpload.close)
        try:
            await pour(self._threads, chunks, upload.write)
        finally:
            await self._threads.run(upload.close)
        return upload.size

    async def upload_size(self, upload_id: str) -> int:
        path = self._upload_path(upload_id)
        with translated("looking at the upload"):
            try:
                return (await self._threads.run(os.stat, path)).st_size
            except FileNotFoundError:
                self._check_there()
                raise unknown(upload_id) from None

    async def commit(self, upload_id: str, digest: Digest) -> int:
        return await self._threads.run(self._publish, upload_id, digest)

    async def abort(self, upload_id: str) -> None:
        self._states.take(upload_id)
        if is_id(upload_id):
            with translated("removing the upload"):
                path = self._upload_path(upload_id)
                await self._threads.run(self._disk.remove, hash_file(path))
                await self._threads.run(self._disk.remove, path)

    async def pending_uploads(self, older_than: datetime) -> Iterable[PendingUpload]:
        with translated("listing the uploads"):
            return await self._threads.run(self._scan_uploads, older_than)

    async def stat(self, digest: Digest) -> int | None:
        with translated("looking at the blob"):
            try:
                return (await self._threads.run(os.stat, self._blob_path(digest))).st_size
            except FileNotFoundError:
                self._check_there()
                return None

    @contextlib.asynccontextmanager
    async def open(self, digest: Digest, size: int) -> AsyncIterator[FileReader]:
        with self._open_files.read_again(digest, size) as known:
            if known is not None:
                yield FileReader(known, size, digest, self._threads.run, self._wrong)
                return
        begun = self._open_files.begin()
        opened = await self._threads.run(self._open_whole, digest, size, undo=os.close)
        with self._open_files.reading(digest, opened, begun) as descriptor:
            yield FileReader(descriptor, size, digest, self._threads.run, self._wrong)

    async def local_path(self, digest: Digest, size: int) -> Path | None:
        async with self.open(digest, size):
            return self._blob_path(digest)

    async def presigned_url(self, digest: Digest, size: int, *, expires_seconds: int) -> str | None:
        await self.local_path(digest, size)
        return None

    async def list(self, after: str = "", limit: int = 1000) -> Sequence[StoredBlob]:
        with translated("listing the blobs"):
            found = await self._threads.run(stored_after, self._root / "blobs", after, limit)
        if not found:
            self._check_there()
        return found

    async def delete(self, digest: Digest) -> None:
        await self._threads.run(self._remove_blob, digest)

    async def quarantine(self, digest: Digest, reader: BlobReader) -> None:
        if isinstance(reader, FileReader):
            await self._threads.run(self._set_aside, digest, reader.size, reader.inode())

    async def close(self) -> None:
        await self._threads.close()
        self._open_files.close()

    def _hold_at(self, upload_id: str, offset: int, algorithm: str) -> HeldUpload:
        upload = self._held(upload_id, self._reserve_bytes)
        try:
            if upload.size != offset:
                raise UploadOffsetWrong(
                    f"upload {upload_id} ends at {upload.size}, not at {offset}",
                    action=f"go on at offset {upload.size}",
                    size=upload.size,
                )
            upload.prepare(algorithm)
        except BaseException:
            upload.close()
            raise
        return upload

    def _held(self, upload_id: str, reserve_bytes: int) -> HeldUpload:
        try:
            return HeldUpload(self._disk, self._upload_path(upload_id), self._states, reserve_bytes)
        except UploadUnknown:
            self._check_there()
            raise

    def _publish(self, upload_id: str, digest: Digest) -> int:
        upload = self._held(upload_id, reserve_bytes=0)
        finished = False
        try:
            digest.verify(upload.hasher(digest.algorithm).digest())
            upload.sync()
            upload.forget_hash()
            target = self._blob_path(digest)
            with translated("publishing the blob"):
                self._disk.make_directory(target.parent)
                replaced = self._disk.hold(target)
                try:
                    self._disk.publish(upload.path, target)
                    finished = True
                    self._disk.sync_directory(target.parent)
                finally:
                    self._open_files.forget(digest)
                    if replaced is not None:
                        self._threads.submit(os.close, replaced)
            return upload.size
        finally:
            upload.close(finished=finished)

    def _open_whole(self, digest: Digest, size: int) -> int:
        path = self._blob_path(digest)
        with translated("opening the blob"):
            try:
                descriptor = self._disk.open_for_reading(path)
            except FileNotFoundError:
                self._check_there()
                raise BlobMissing(f"nothing is stored as {digest}", action="push it again") from None
            found = os.fstat(descriptor)
        if found.st_size == size:
            return descriptor
        os.close(descriptor)
        self._set_aside(digest, size, found.st_ino)
        raise BlobDamaged(
            f"{digest} has {found.st_size} bytes on the disk instead of {size}; it was moved aside",
            action="push it again to repair it",
            digest=str(digest),
            stored_size=found.st_size,
            recorded_size=size,
        )

    def _check_there(self) -> None:
        """Before saying that something does not exist: a mount that was lost leaves an empty directory, and nothing in
        it would exist. Whoever believed that would push everything anew, or call it lost.
        """
        if not (self._root / "blobs").is_dir():
            raise StorageFailed(
                "the directory of the blobs is not there", action="try again; mount or restore it on the server"
            )

    def _set_aside(self, digest: Digest, size: int, inode: int) -> None:
        path = self._blob_path(digest)
        aside = self._damaged / f"{digest.algorithm}-{digest.hex}-{secrets.token_hex(4)}"
        self._open_files.forget(digest)
        try:
            if os.stat(path).st_ino != inode:
                return  # replaced since
        except FileNotFoundError:
            return
        with contextlib.suppress(FileNotFoundError), translated("moving a damaged blob aside"):
            os.replace(path, aside)
            if os.stat(aside).st_ino != inode:
                # It was repaired between our look and our move: give the good one its name back.
                os.replace(aside, path)
            self._disk.sync_directory(path.parent)
        self._open_files.forget(digest)
        log.error("blob quarantined", digest=str(digest), recorded_size=size, moved_to=str(aside))

    def _remove_blob(self, digest: Digest) -> None:
        path = self._blob_path(digest)
        with translated("deleting the blob"):
            if path.parent.is_dir():
                self._disk.remove(path)
                self._open_files.forget(digest)
                self._disk.sync_directory(path.parent)

    def _scan_uploads(self, older_than: datetime) -> Iterable[PendingUpload]:
        found = []
        for entry in os.scandir(self._uploads):
            with contextlib.suppress(FileNotFoundError):
                state = entry.stat()
                touched = datetime.fromtimestamp(state.st_mtime, UTC)
                if touched < older_than and is_id(entry.name):
                    found.append(PendingUpload(entry.name, state.st_size, touched))
                elif touched < older_than and is_left_over(self._uploads / entry.name):
                    os.unlink(entry.path)
        return found

    def _upload_path(self, upload_id: str) -> Path:
        if not is_id(upload_id):
            raise unknown(upload_id)
        return self._uploads / upload_id

    def _blob_path(self, digest: Digest) -> Path:
        return self._root / "blobs" / digest.algorithm / digest.hex[:2] / digest.hex
