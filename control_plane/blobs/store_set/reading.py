"""An open blob of several copies: when one fails on the way, the next one goes on at the same byte."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from common.errors import Failure, Unavailable
from control_plane.blobs import BlobDamaged, BlobMissing, BlobReader, FileBacked, FilePiece

NextCopy = Callable[[Failure], Awaitable[BlobReader]]


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
