"""A `BlobStore` over several stores.

Where a blob is read: the store that served it last, then hot before cold, those that failed a moment ago at the end.
A copy that is missing, damaged or in a store that is away is passed over; what fails is told to the `Watcher`, so that
it is healed. Deleting removes every copy. A store that hangs is given `patience_seconds` if another one may answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableSequence, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import datetime
from itertools import groupby, islice
from pathlib import Path
from typing import TypeVar

import structlog

from common.clock import Clock
from common.digest import Digest
from common.errors import Failure, Unavailable
from control_plane.blobs import (
    BlobDamaged,
    BlobMissing,
    BlobReader,
    FileBacked,
    PendingUpload,
    StorageFailed,
    StoredBlob,
)
from control_plane.blobs.store_set.members import Member, Members
from control_plane.blobs.store_set.reading import AnyCopyReader, AnyFileReader, WatchedReading, Watcher
from control_plane.blobs.store_set.uploads import UploadPlaces, raise_first

_REMEMBERED = 50_000
_REMEMBERED_SECONDS = 300.0
T = TypeVar("T")
log = structlog.get_logger()


class Unwatched:
    def committed(self, digest: Digest, size: int, store: str) -> None: ...

    def read(self, digest: Digest) -> None: ...

    def failed(self, digest: Digest, store: str, *, missing: bool) -> None: ...


class StoreSet:
    """`watcher` may be set once, before the set is used."""

    def __init__(self, stores: Sequence[Member], clock: Clock, *, patience_seconds: float = 5.0) -> None:
        self.members = Members(stores, clock)
        self.watcher: Watcher = Unwatched()
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._uploads = UploadPlaces(self.members)
        self._places: OrderedDict[Digest, tuple[str, float]] = OrderedDict()

    async def create_upload(self, upload_id: str) -> None:
        await self._uploads.create(upload_id)

    async def append(self, upload_id: str, offset: int, chunks: AsyncIterator[bytes], algorithm: str = "sha256") -> int:
        member = await self._uploads.of(upload_id)
        return await member.store.append(upload_id, offset, chunks, algorithm)

    async def upload_size(self, upload_id: str) -> int:
        return await (await self._uploads.of(upload_id)).store.upload_size(upload_id)

    async def commit(self, upload_id: str, digest: Digest) -> int:
        member = await self._uploads.of(upload_id)
        size = await member.store.commit(upload_id, digest)
        self._uploads.ended(upload_id)
        self._remember(digest, member)
        self.watcher.committed(digest, size, member.name)
        return size

    async def abort(self, upload_id: str) -> None:
        await self._uploads.abort(upload_id)

    async def pending_uploads(self, older_than: datetime) -> Iterable[PendingUpload]:
        return await self._uploads.pending(older_than)

    async def stat(self, digest: Digest) -> int | None:
        """Of the first copy found. Raises `StorageFailed` if there is none where we can look, and a store is away."""
        away: Failure | None = None
        for member in self._in_order(digest):
            try:
                size = await self._answer(member, member.store.stat(digest))
            except Unavailable as failure:
                away = failure
                continue
            if size is not None:
                return size
        if away is not None:
            raise away
        return None

    def open(self, digest: Digest, size: int) -> AbstractAsyncContextManager[BlobReader]:
        if len(self.members.all) == 1:
            primary = self.members.primary
            return WatchedReading(primary.store.open(digest, size), self.watcher, digest, primary.name)
        return self._open_any(digest, size)

    @contextlib.asynccontextmanager
    async def _open_any(self, digest: Digest, size: int) -> AsyncIterator[BlobReader]:
        async with AsyncExitStack() as stack:
            untried, failures = iter(self._in_order(digest)), list[Failure]()

            async def following(failure: Failure | None = None) -> BlobReader:
                if failure is not None:
                    failures.append(failure)
                return await self._first(
                    digest, untried, failures, lambda each: stack.enter_async_context(each.store.open(digest, size))
                )

            reader = await following()
            self.watcher.read(digest)
            if isinstance(reader, FileBacked):
                yield AnyFileReader(reader, following)
            else:
                yield AnyCopyReader(reader, following)

    async def local_path(self, digest: Digest, size: int) -> Path | None:
        """Only of the primary: that is what a web server in front may know. Others are read by `open`."""
        primary = self.members.primary

        async def ask(member: Member) -> Path | None:
            path = await member.store.local_path(digest, size)
            return path if member is primary else None

        path = await self._first(digest, iter(self._in_order(digest)), [], ask)
        self.watcher.read(digest)
        return path

    async def presigned_url(self, digest: Digest, size: int, *, expires_seconds: int) -> str | None:
        async def ask(member: Member) -> str | None:
            if member.redirects:
                return await member.store.presigned_url(digest, size, expires_seconds=expires_seconds)
            await member.store.local_path(digest, size)  # raises as `open` does
            return None

        url = await self._first(digest, iter(self._in_order(digest)), [], ask)
        self.watcher.read(digest)
        return url

    async def list(self, after: str = "", limit: int = 1000) -> Sequence[StoredBlob]:
        """Each blob once, with the size that the hottest store says. Raises `StorageFailed` if any store is away: who
        compares with records must not take that for a loss.
        """
        pages = [await member.store.list(after, limit) for member in self.members.all]
        merged = heapq.merge(*pages, key=lambda each: each.digest)
        firsts = (next(copies) for _, copies in groupby(merged, key=lambda each: each.digest))
        return list(islice(firsts, limit))

    async def delete(self, digest: Digest) -> None:
        self._places.pop(digest, None)
        ended = await asyncio.gather(
            *(member.store.delete(digest) for member in self.members.all), return_exceptions=True
        )
        raise_first(ended)

    async def quarantine(self, digest: Digest, reader: BlobReader) -> None:
        """Of whichever store the reader came from; the others do not know it."""
        inner = reader.current if isinstance(reader, AnyCopyReader) else reader
        for member in self.members.all:
            await member.store.quarantine(digest, inner)

    async def close(self) -> None:
        for member in self.members.all:
            await member.store.close()

    async def _first(
        self,
        digest: Digest,
        untried: Iterable[Member],
        failures: MutableSequence[Failure],
        ask: Callable[[Member], Awaitable[T]],
    ) -> T:
        """The answer of the first copy that has one. Raises why there is none."""
        for member in untried:
            try:
                answer = await self._answer(member, ask(member))
            except (BlobMissing, BlobDamaged) as failure:
                failures.append(failure)
                self.watcher.failed(digest, member.name, missing=isinstance(failure, BlobMissing))
                continue
            except Unavailable as failure:
                failures.append(failure)
                continue
            self._remember(digest, member)
            return answer
        self._places.pop(digest, None)
        raise _gravest(failures)

    async def _answer(self, member: Member, asked: Awaitable[T]) -> T:
        patience = self._patience_seconds if len(self.members.all) > 1 else None
        try:
            async with asyncio.timeout(patience):
                answer = await asked
        except TimeoutError:
            self.members.failed(member)
            raise StorageFailed(
                f"store {member.name} did not answer within {patience:g} s", action="try again", retry_after_seconds=5
            ) from None
        except Unavailable:
            self.members.failed(member)
            raise
        self.members.answered(member)
        return answer

    def _in_order(self, digest: Digest) -> Sequence[Member]:
        if len(self.members.all) == 1:
            return self.members.all
        place, until = self._places.get(digest, (None, 0.0))
        return self.members.in_order(place if self._clock.monotonic() < until else None)

    def _remember(self, digest: Digest, member: Member) -> None:
        if len(self.members.all) == 1:
            return
        known = self._places.pop(digest, None)
        # Not prolonged while it is read: a copy that came to a hotter store is found within this time.
        until = self._clock.monotonic() + _REMEMBERED_SECONDS
        if known is not None and known[0] == member.name and known[1] > self._clock.monotonic():
            until = known[1]
        self._places[digest] = (member.name, until)
        if len(self._places) > _REMEMBERED:
            self._places.popitem(last=False)


def _gravest(failures: Sequence[Failure]) -> Failure:
    """A store that is away may have a good copy; damage is more than absence."""
    for kind in (Unavailable, BlobDamaged):
        for failure in failures:
            if isinstance(failure, kind):
                return failure
    return failures[0]
