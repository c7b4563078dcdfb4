"""An open blob of several copies: when one fails on the way, the next one goes on at the same byte."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol

from common.digest import Digest
from common.errors import Failure, Unavailable
from control_plane.blobs import BlobDamaged, BlobMissing, BlobReader, FileBacked, FilePiece

NextCopy = Callable[[Failure], Awaitable[BlobReader]]


class Watcher(Protocol):
    """Hears of what happens, on the hottest paths: only note it."""

    def committed(self, digest: Digest, size: int, store: str) -> None: ...

    def read(self, digest: Digest) -> None: ...

    def failed(self, digest: Digest, store: str, *, missing: bool) -> None:
        """A copy cannot be served. `missing`: perhaps there never was one."""
        ...


class WatchedReading:
    """The only store's own reader, so that a set of one costs nothing."""

    def __init__(
        self, opening: AbstractAsyncContextManager[BlobReader], watcher: Watcher, digest: Digest, store: str
    ) -> None:
        self._opening = opening
        self._watcher = watcher
        self._digest = digest
        self._store = store

    async def __aenter__(self) -> BlobReader:
        try:
            reader = await self._opening.__aenter__()
        except (BlobMissing, BlobDamaged) as failure:
            self._watcher.failed(self._digest, self._store, missing=isinstance(failure, BlobMissing))
            raise
        self._watcher.read(self._digest)
        return reader

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._opening.__aexit__(kind, error, traceback)


class AnyCopyReader:
    """`following` opens the next copy, or raises if there is none. Reads may overlap."""

    def __init__(self, reader: BlobReader, following: NextCopy) -> None:
        self.size = reader.size
        self._reader = reader
        self._following = following

    @property
    def current(self) -> BlobReader:
        """Of the copy that is being read."""
        return self._reader

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        position = start
        while True:
            reader = self._reader
            try:
                async for piece in reader.read(position, end):
                    yield piece
                    position += len(piece)
                return
            except (BlobMissing, BlobDamaged, Unavailable) as failure:
                await self._go_on(reader, failure)

    async def _go_on(self, failed: BlobReader, failure: Failure) -> None:
        if self._reader is failed:  # else an overlapping read has opened the next one already
            self._reader = await self._following(failure)


class AnyFileReader(AnyCopyReader):
    """While its copies are files, the kernel can send them."""

    async def file_pieces(self, start: int, end: int) -> AsyncIterator[FilePiece]:
        """See `FileBacked`. Raises what the file failed with if the next copy is no file."""
        position = start
        while True:
            reader = self._reader
            try:
                if not isinstance(reader, FileBacked):
                    raise BlobDamaged("the file of a blob failed and its other copies are no files", action="try again")
                async for piece in reader.file_pieces(position, end):
                    yield piece
                    position = piece.offset + piece.length
                return
            except (BlobMissing, BlobDamaged, Unavailable) as failure:
                if not isinstance(reader, FileBacked):
                    raise
                await self._go_on(reader, failure)
