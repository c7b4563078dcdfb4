"""Port: where the bytes of images live, named by digest.

Life cycle. An upload is created under an id that the caller chose, grows by `append` (only at its end, so that an
offset is all a client must know to resume), and ends in `commit` or `abort`. Commit publishes: before it nothing is
readable under the digest, after it everything is; there is no state between, whatever is killed or fails. A blob is
immutable and stored once, however many uploads of it were committed, together or one after the other.

Duties under failure:
- What `append` took stays: when the source of bytes ends early, the caller is cancelled or the disk fills up, the bytes
  that arrived before are part of the upload and `upload_size` counts them. An upload outlives the process that wrote
  it.
- An append survives the death of the process. Power loss may shorten an upload that was not committed: `upload_size`
  tells the truth and `commit` verifies every byte. A commit survives power loss.
- `commit` verifies first. A false digest publishes nothing and leaves the upload as it was.
- Publishing replaces what is stored under the digest. That is how a damaged blob is repaired: by pushing it again.
- A reader states the size that it knows from its records. A blob of another size is never served: it is moved aside
  (kept for an investigation, no longer readable) and `BlobDamaged` is raised, now and until somebody commits it again.

Offsets and sizes are bytes. The proof is tests/conformance/blob_store.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from common.digest import Digest
from common.errors import Conflict, Internal, NotFound, TooLarge, Unavailable


class UploadUnknown(NotFound):
    """There is no such upload: never made, committed, aborted or expired."""

    code = "upload_unknown"


class UploadOffsetWrong(Conflict):
    """The bytes do not start where the upload ends; `facts["size"]` says where that is."""

    code = "upload_offset_wrong"


class UploadBusy(Unavailable):
    """Another request writes to this upload at this moment."""

    code = "upload_busy"


class BlobMissing(NotFound):
    """Nothing is stored under the digest."""

    code = "blob_missing"


class BlobDamaged(Internal):
    """What is stored under the digest is not what the records say."""

    code = "blob_damaged"


class BlobUntrue(Internal):
    """What the disk gave is not what the digest names, and all but the end of it was handed out: nobody may go on with
    another copy, for what came before is wrong.
    """

    code = "blob_untrue"


class DiskFull(Unavailable):
    """No room for the bytes. What arrived is kept and the upload can be resumed once there is room."""

    code = "disk_full"


class BlobTooLarge(TooLarge):
    """More bytes than the store can keep as one blob."""

    code = "blob_too_large"


class StorageFailed(Unavailable):
    """The disk or the object store answered with an error of its own."""

    code = "storage_failed"


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """An upload that is neither committed nor aborted."""

    upload_id: str
    size: int
    touched_at: datetime


class StoredBlob(NamedTuple):
    """What is stored, by its name and its length; no promise about the bytes."""

    digest: Digest
    size: int


class FilePiece(NamedTuple):
    """Bytes of an open file that are in memory now; the descriptor is the reader's and ends with it."""

    descriptor: int
    offset: int
    length: int


@runtime_checkable
class FileBacked(Protocol):
    """A reader of a file that the kernel can send by itself."""

    def file_pieces(self, start: int, end: int) -> AsyncIterator[FilePiece]:
        """Bytes `start` to `end` (exclusive) in order, each piece once it need not wait for the disk."""
        ...


@runtime_checkable
class DiskBacked(Protocol):
    """A reader of what may be in memory already, although it is damaged on the disk."""

    async def forget_cached(self) -> None:
        """What is read next comes from the disk, as far as the kernel lets us say so."""
        ...


class BlobReader(Protocol):
    """An open blob: it can be read to its end even if it is deleted or replaced meanwhile."""

    size: int

    def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes `start` (inclusive) to `end` (exclusive) in large pieces; raises `BlobDamaged` if the file ends early,
        so that a short read never looks like success.
        """
        ...


class BlobStore(Protocol):
    async def create_upload(self, upload_id: str) -> None:
        """Make an empty upload. `upload_id` is a UUID, which is safe as the name of a file or an object. Raises
        `DiskFull`, `StorageFailed`.
        """
        ...

    async def append(self, upload_id: str, offset: int, chunks: AsyncIterator[bytes], algorithm: str = "sha256") -> int:
        """Write all of `chunks` at the end of the upload, which must be at `offset`; returns the new size.

        `algorithm` is what the digest will probably be made with; another one costs `commit` a second reading.

        Raises `UploadUnknown`, `UploadOffsetWrong`, `UploadBusy`, `DiskFull`, `BlobTooLarge`, `StorageFailed`, or what
        `chunks` raises.
        """
        ...

    async def upload_size(self, upload_id: str) -> int:
        """How much of the upload is there. Raises `UploadUnknown`."""
        ...

    async def commit(self, upload_id: str, digest: Digest) -> int:
        """Verify and publish the upload as `digest`; the upload is gone afterwards. Returns the size.

        Raises `common.digest.DigestMismatch` (nothing published, upload unchanged), `UploadUnknown`, `UploadBusy`,
        `DiskFull`, `StorageFailed`.
        """
        ...

    async def abort(self, upload_id: str) -> None:
        """Forget an upload and its bytes; harmless if there is none."""
        ...

    async def pending_uploads(self, older_than: datetime) -> Iterable[PendingUpload]:
        """Uploads that nobody touched since `older_than`."""
        ...

    async def stat(self, digest: Digest) -> int | None:
        """The stored size, or None. No promise about the bytes."""
        ...

    def open(self, digest: Digest, size: int) -> AbstractAsyncContextManager[BlobReader]:
        """Open for reading. Entering raises `BlobMissing`, or `BlobDamaged` unless exactly `size` bytes are stored."""
        ...

    async def local_path(self, digest: Digest, size: int) -> Path | None:
        """A file that holds the blob for as long as it is not deleted, for those who can use one (sendfile, nginx,
        libtorrent); None where there are no files. Raises like `open`. The file must not be written to.
        """
        ...

    async def presigned_url(self, digest: Digest, size: int, *, expires_seconds: int) -> str | None:
        """Where anybody may GET the blob for so long, ranges and all, without us; None where there are no such
        addresses. Raises like `open`.
        """
        ...

    async def list(self, after: str = "", limit: int = 1000) -> Sequence[StoredBlob]:
        """At most `limit` stored blobs whose digests, written out, come after `after`, in that order. A blob that was
        there all the time is in exactly one page; one that comes or goes meanwhile may be missed.
        """
        ...

    async def delete(self, digest: Digest) -> None:
        """Remove the blob; harmless if there is none. Those who have it open read on."""
        ...

    async def quarantine(self, digest: Digest, reader: BlobReader) -> None:
        """What `reader`, which `open` of this store gave, reads is not the blob: move it aside (kept for an
        investigation, no longer readable). Harmless if it was replaced or deleted since it was opened.
        """
        ...

    async def close(self) -> None:
        """Wait for what is being written; the store is not used afterwards."""
        ...
