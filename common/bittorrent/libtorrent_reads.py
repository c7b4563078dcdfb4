"""Reading verified pieces of a libtorrent torrent, and which of them are asked for first.

Invariant: what `read` returns passed its Merkle root. It goes through libtorrent and not through the file, because
libtorrent writes behind what it announces (recheck.py has the figures); a read is answered from its write queue too.

libtorrent's ways (2.1.1): `set_piece_deadline` on a torrent that had no deadline cancels all requests under way, so a
window moves by setting what comes before resetting what goes; a reset piece falls to the lowest priority but one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from common.bittorrent.metainfo import Metainfo
from common.errors import Failure, Unavailable

_ANSWER_SECONDS = 30.0
# Between the deadlines of two neighbours: it orders them, nothing is dropped for being late.
_STEP_MILLISECONDS = 100


@dataclass
class _Read:
    answer: asyncio.Future[bytes | Failure]
    readers: int = 0


class PieceReads:
    """`present` gives libtorrent's handle, or None while the torrent is not in libtorrent. `held`: verified or not."""

    def __init__(self, metainfo: Metainfo, present: Callable[[], Any], held: Callable[[int], bool]) -> None:
        self._metainfo = metainfo
        self._present = present
        self._held = held
        self._reads: dict[int, _Read] = {}
        self._soon: tuple[int, ...] = ()

    async def read(self, index: int) -> bytes:
        """As `TorrentHandle.read_piece`; the caller saw to it that the torrent is there."""
        self._metainfo.piece_size(index)
        read = self._reads.get(index)
        if read is None:
            read = self._reads[index] = _Read(asyncio.get_running_loop().create_future())
            if self._held(index):
                self._ask(index)
        read.readers += 1
        try:
            await self._wait(index, read)
        finally:
            read.readers -= 1
            if not read.readers and self._reads.get(index) is read:
                del self._reads[index]
        result = read.answer.result()
        if isinstance(result, Failure):
            raise result.with_traceback(None)
        return result

    def want_soon(self, pieces: Sequence[int]) -> None:
        handle, before = self._present(), self._soon
        self._soon = tuple(pieces)
        if handle is None or self._soon == before:
            return
        self._set_deadlines(handle)
        for index in before:
            if index not in self._soon and not self._held(index):
                handle.reset_piece_deadline(index)

    def renew(self) -> None:
        """The torrent is in libtorrent anew."""
        self._set_deadlines(self._present())
        for index in self._reads:
            if self._held(index):
                self._ask(index)

    def arrived(self, index: int) -> None:
        if index in self._reads:
            self._ask(index)

    def answered(self, index: int, data: bytes | None, message: str) -> None:
        """`data` None: libtorrent could not read it."""
        read = self._reads.get(index)
        # One that is not held is the empty answer to a deadline that was taken back.
        if read is None or read.answer.done() or not self._held(index):
            return
        if data is not None and len(data) == self._metainfo.piece_size(index):
            read.answer.set_result(data)
        else:
            read.answer.set_result(Unavailable(f"piece {index} cannot be read: {message}", action="check the disk"))

    def end(self, failure: Failure) -> None:
        for read in self._reads.values():
            if not read.answer.done():
                read.answer.set_result(failure)
        self._reads.clear()

    async def _wait(self, index: int, read: _Read) -> None:
        """No deadline while the piece is on its way; one for libtorrent's answer."""
        while not read.answer.done():
            held = self._held(index)
            # `wait`, not `wait_for`: a reader that leaves must not cancel what others wait for.
            await asyncio.wait([read.answer], timeout=_ANSWER_SECONDS)
            if held and not read.answer.done():
                raise Unavailable(f"libtorrent did not read piece {index} in time", action="ask again")

    def _set_deadlines(self, handle: Any) -> None:
        for rank, index in enumerate(self._soon):
            if not self._held(index):
                handle.set_piece_deadline(index, rank * _STEP_MILLISECONDS)

    def _ask(self, index: int) -> None:
        handle = self._present()
        if handle is not None:
            handle.read_piece(index)


def piece_read(alert: Any) -> tuple[int, bytes | None, str]:
    """(index, bytes or None, why not)."""
    failed = alert.error.value() != 0
    return alert.piece, None if failed else alert.buffer, alert.error.message() if failed else ""
