"""Credit between whoever sends bytes and whoever takes them, over a stream that also carries words of control
(proto/agent/v1/channels.proto): a slow reader holds up its own sender, and nothing else.

Invariant: at most `WINDOW_BYTES` are on the way that the receiver has not given back. Both ends count; an end that
breaks the rule is found out by the other (`FlowBroken`), so memory is bounded whoever is at the other end.
"""

from __future__ import annotations

import asyncio

from common.errors import Invalid

# The transport's own windows grow with the round-trip time to megabytes; this does not, and 256 KiB every 50 ms is
# 5 MB/s, more than a person reads.
WINDOW_BYTES = 256 << 10
# What is sent at a time. Larger pieces are refused, so that words of control are never far behind.
PIECE_BYTES = 32 << 10
LARGEST_PIECE_BYTES = 64 << 10
# Credit goes back in quarters of the window: one small message for each 64 KiB.
_QUANTUM_BYTES = WINDOW_BYTES // 4


class FlowBroken(Invalid):
    """The other end sent more than it had credit for, or gave back more than it got."""

    code = "flow_broken"


class SendWindow:
    """The sender's end. One task may wait at a time."""

    def __init__(self, room: int = WINDOW_BYTES) -> None:
        self._largest = self._room = room
        self._given = asyncio.Event()

    async def take(self, wanted: int) -> int:
        """Wait until something may be sent; how much of `wanted` (at least 1) that is."""
        while self._room <= 0:
            self._given.clear()
            await self._given.wait()
        taken = min(wanted, self._room)
        self._room -= taken
        return taken

    def spend(self, count: int) -> None:
        """For whoever passes on what others send: raises `FlowBroken` where `take` would wait."""
        if count > self._room:
            raise FlowBroken("more was sent than was given back", action="wait for credit before you send more")
        self._room -= count

    def credit(self, count: int) -> None:
        """Raises `FlowBroken`."""
        if count < 0 or self._room + count > self._largest:
            raise FlowBroken("more was given back than was sent", action="update the older of the two ends")
        self._room += count
        self._given.set()


class ReceiveWindow:
    """The receiver's end."""

    def __init__(self, room: int = WINDOW_BYTES) -> None:
        self._room = room
        self._owed = 0

    def arrived(self, count: int) -> None:
        """Raises `FlowBroken`."""
        if count > min(self._room, LARGEST_PIECE_BYTES):
            raise FlowBroken("more was sent than there was credit for", action="update the older of the two ends")
        self._room -= count

    def taken(self, count: int) -> int:
        """What is to be given back now; 0 until it is worth a message."""
        self._owed += count
        if self._owed < _QUANTUM_BYTES:
            return 0
        credit, self._owed = self._owed, 0
        self._room += credit
        return credit
