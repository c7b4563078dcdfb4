"""The blob store on S3: the port's calls, each handed to a thread.

An upload that this process wrote to last is kept with its hash and its tail, so that the next request (in a push nearly
always the commit) begins without a look at the store; whether it is still the truth is decided by the condition of the
next write.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

import structlog

from common.clock import Clock
from common.digest import Digest, DigestMismatch
from common.identifiers import is_id, new_id
from control_plane.blobs import BlobReader, PendingUpload, StoredBlob, UploadBusy, UploadOffsetWrong, UploadUnknown
from control_plane.blobs.s3.calls import S3Calls, S3Options
from control_plane.blobs.s3.contents import Contents
from control_plane.blobs.s3.reader import S3Reader
from control_plane.blobs.s3.upload import HeldUpload, Workshop, busy, unknown
from control_plane.blobs.s3.uploads import Uploads
from control_plane.blobs.threads import BlobThreads, pour

_KEPT_UPLOADS = 64
# Longer than any address that is given out is valid, and than a sane client takes for one answer.
DISCARDED_FOR = timedelta(hours=2)
log = structlog.get_logger()


class S3BlobStore:
    """The bucket must exist. `random` gives the jitter of repetitions; bytes wait in `spool_directory` (the system's
    for temporary files if None).
    """

    def __init__(
        self, options: S3Options, clock: Clock, random: Callable[[], float], *, spool_directory: Path | None = None
    ) -> None:
        self._calls = S3Calls(options, clock, random)
        self._clock = clock
        self._threads = BlobThreads(options.threads)
        self._senders = BlobThreads(options.threads)
        self._contents = Contents(self._calls)
        shop = Workshop(
            calls=self._calls,
            senders=self._senders,
            clock=clock,
            instance=new_id(clock),
            part_bytes=options.part_bytes,
            equal_parts=options.equal_parts,
            spool_directory=spool_directory,
        )
        self._uploads = Uploads(shop, self._contents)
        self._kept: OrderedDict[str, HeldUpload] = OrderedDict()
        self._busy: set[str] = set()

    async def create_upload(self, upload_id: str) -> None:
        if not is_id(upload_id):
            raise unknown(upload_id)
        self._keep(await self._threads.run(self._uploads.create, upload_id, undo=HeldUpload.close))

    async def append(self, upload_id: str, offset: int, chunks: AsyncIterator[bytes], algorithm: str = "sha256") -> int:
        with self._alone(upload_id):
            held = await self._hold(upload_id, offset)
            try:
                held.prepare(algorithm)
                try:
                    await pour(self._threads, chunks, held.write)
                finally:
                    await self._threads.run(held.save)
            finally:
                self._keep(held)
            return held.size

    async def upload_size(self, upload_id: str) -> int:
        if not is_id(upload_id):
            raise unknown(upload_id)
        return await self._threads.ask(self._uploads.size, upload_id)

    async def commit(self, upload_id: str, digest: Digest) -> int:
        with self._alone(upload_id):
            kept = self._kept.pop(upload_id, None)
            if kept is not None:
                # What we remember may be old: another replica may have gone on with it, or ended it.
                with contextlib.suppress(DigestMismatch, UploadBusy, UploadUnknown):
                    return await self._finish(kept, digest)
            return await self._finish(await self._load(upload_id), digest)

    async def _finish(self, held: HeldUpload, digest: Digest) -> int:
        try:
            return await self._threads.run(self._uploads.commit, held, digest)
        finally:
            held.close()

    async def abort(self, upload_id: str) -> None:
        if is_id(upload_id):
            self._drop(upload_id)
            await self._threads.run(self._uploads.abort, upload_id)

    async def pending_uploads(self, older_than: datetime) -> Iterable[PendingUpload]:
        """Sweeps what nobody else does, too: discarded contents, and multipart uploads that no upload knows of."""
        pending = await self._threads.run(lambda: [*self._uploads.pending(older_than)])
        await self._threads.run(self._uploads.sweep_multiparts, older_than)
        await self.sweep(self._clock.now() - DISCARDED_FOR)
        return pending

    async def sweep(self, discarded_before: datetime) -> int:
        """Remove contents that were replaced or deleted before then; returns how many."""
        removed = await self._threads.run(self._contents.sweep, discarded_before)
        if removed:
            log.info("discarded contents removed", count=removed)
        return removed

    async def stat(self, digest: Digest) -> int | None:
        named = await self._threads.ask(self._contents.find, digest)
        return named.pointer.size if named is not None and named.pointer.content else None

    @contextlib.asynccontextmanager
    async def open(self, digest: Digest, size: int) -> AsyncIterator[S3Reader]:
        key = await self._threads.ask(self._contents.whole, digest, size)
        yield S3Reader(self._calls, self._contents, self._threads, digest, size, key)

    async def local_path(self, digest: Digest, size: int) -> Path | None:
        await self._threads.ask(self._contents.whole, digest, size)
        return None

    async def presigned_url(self, digest: Digest, size: int, *, expires_seconds: int) -> str | None:
        key = await self._threads.ask(self._contents.whole, digest, size)
        return self._calls.presign(key, expires_seconds)

    async def list(self, after: str = "", limit: int = 1000) -> Sequence[StoredBlob]:
        """The sizes cost a request each; as many at once as there are threads."""
        digests = await self._threads.run(lambda: [*islice(self._contents.after(after), limit)])
        sizes = await asyncio.gather(*(self.stat(digest) for digest in digests))
        return [StoredBlob(digest, size) for digest, size in zip(digests, sizes, strict=True) if size is not None]

    async def delete(self, digest: Digest) -> None:
        await self._threads.run(self._contents.delete, digest)

    async def quarantine(self, digest: Digest, reader: BlobReader) -> None:
        if isinstance(reader, S3Reader):
            await self._threads.run(self._contents.condemn, digest, reader.key)

    async def check(self) -> None:
        """Whether the bucket can be reached. Raises `StorageFailed`."""
        await self._threads.ask(self._calls.check)

    async def close(self) -> None:
        self._calls.stop()
        await self._threads.close()
        await self._senders.close()
        for upload_id in [*self._kept]:
            self._drop(upload_id)
        self._calls.close()

    @contextlib.contextmanager
    def _alone(self, upload_id: str) -> Iterator[None]:
        if not is_id(upload_id):
            raise unknown(upload_id)
        if upload_id in self._busy:
            raise busy(upload_id, 1.0)
        self._busy.add(upload_id)
        try:
            yield
        finally:
            self._busy.discard(upload_id)

    async def _hold(self, upload_id: str, offset: int) -> HeldUpload:
        held = self._kept.pop(upload_id, None)
        if held is not None and held.size != offset:
            held.close()  # another replica may have gone on with it
            held = None
        if held is None:
            held = await self._load(upload_id)
        if held.size != offset:
            self._keep(held)
            raise UploadOffsetWrong(
                f"upload {upload_id} ends at {held.size}, not at {offset}",
                action=f"go on at offset {held.size}",
                size=held.size,
            )
        return held

    async def _load(self, upload_id: str) -> HeldUpload:
        held = await self._threads.run(self._uploads.load, upload_id, undo=HeldUpload.close)
        try:
            held.require_free()
        except UploadBusy:
            held.close()
            raise
        return held

    def _keep(self, held: HeldUpload) -> None:
        if not held.usable:
            held.close()
            return
        self._kept[held.upload_id] = held
        while len(self._kept) > _KEPT_UPLOADS:
            self._kept.popitem(last=False)[1].close()

    def _drop(self, upload_id: str) -> None:
        held = self._kept.pop(upload_id, None)
        if held is not None:
            held.close()
