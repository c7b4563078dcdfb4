"""Reading one open file in 1 MiB pieces: at once from the page cache, through a thread from the disk.

1 MiB because 64 KiB pieces cost six times the CPU (1.68 against 0.27 seconds a GB, measured on uvicorn).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable

from common.digest import Digest
from control_plane.blobs import BlobDamaged, FilePiece
from control_plane.blobs.disk import translated

_PIECE = 1 << 20
# What the kernel sends at once: the call costs more than at 1 MiB it saves (0.065 against 0.055 CPU seconds a GB).
_SENT_PIECE = 4 << 20
# Linux preadv2(2): fails instead of waiting for the disk. 0 where the platform has no such flag.
_NO_WAIT: int = getattr(os, "RWF_NOWAIT", 0)


_Read = Callable[[int, int], bytes]
_InThread = Callable[[_Read, int, int], Awaitable[bytes]]


class FileReader:
    """Reads of one reader may overlap; the descriptor's position is not used."""

    def __init__(self, descriptor: int, size: int, digest: Digest, in_thread: _InThread) -> None:
        self.size = size
        self._descriptor = descriptor
        self._digest = digest
        self._in_thread = in_thread
        self._try_cache = bool(_NO_WAIT)

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        position = start
        while position < end:
            length = min(_PIECE, end - position)
            with translated("reading the blob"):
                if self._try_cache and self._is_cached(position + length - 1):
                    piece = os.pread(self._descriptor, length, position)
                else:
                    piece = await self._in_thread(self._read_ahead, position, length)
            if not piece:
                raise BlobDamaged(
                    f"{self._digest} ended at {position} instead of {self.size}",
                    action="push it again to repair it",
                    digest=str(self._digest),
                    recorded_size=self.size,
                )
            position += len(piece)
            yield piece

    async def file_pieces(self, start: int, end: int) -> AsyncIterator[FilePiece]:
        """See `FileBacked`."""
        position = start
        while position < end:
            piece_end = min(position + _SENT_PIECE, end)
            for part in range(position, piece_end, _PIECE):
                length = min(_PIECE, piece_end - part)
                with translated("reading the blob"):
                    if not (self._try_cache and self._is_cached(part + length - 1)):
                        await self._in_thread(self._read_ahead, part, length)
            yield FilePiece(self._descriptor, position, piece_end - position)
            position = piece_end

    def inode(self) -> int:
        return os.fstat(self._descriptor).st_ino

    async def forget_cached(self) -> None:
        """See `DiskBacked`. Pages that wait to be written, or that others have mapped, stay."""
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def _is_cached(self, position: int) -> bool:
        """Whether the last byte of a piece is in memory; the kernel reads ahead, so then the whole piece nearly always
        is, and if it is not we wait for a few pages.
        """
        try:
            return os.preadv(self._descriptor, [bytearray(1)], position, _NO_WAIT) == 1
        except BlockingIOError:
            return False
        except OSError:  # the file system does not know the flag (tmpfs)
            self._try_cache = False
            return False

    def _read_ahead(self, position: int, length: int) -> bytes:
        piece = os.pread(self._descriptor, length, position)
        # While this piece travels to the client the disk may fetch the next two.
        os.posix_fadvise(self._descriptor, position + length, 2 * _PIECE, os.POSIX_FADV_WILLNEED)
        return piece
