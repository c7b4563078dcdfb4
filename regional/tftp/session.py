"""One transfer on its socket: acknowledgements in, stretches of sheets out, one log line at the end.

Invariants: nobody but the client that began the transfer moves or ends it (RFC 1350, section 4); an ERROR is never
answered; no call waits.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import structlog

from common.errors import Failure
from regional.tftp.packet import (
    Ack,
    Data,
    ErrorCode,
    OptionAck,
    PacketMalformed,
    Refusal,
    Request,
    decode,
    encode,
)
from regional.tftp.sheets import Sheet
from regional.tftp.sources import Source
from regional.tftp.transfer import Due, Transfer

log = structlog.get_logger()

Address = tuple[Any, ...]
_ACK = b"\0\4"
_UDP, _UDP_SEGMENT = 17, 103
# The kernel takes 64 datagrams of at most one IP packet in all with one call (linux/udp.h, UDP_MAX_SEGMENTS).
_MOST_SEGMENTS = 64
_MOST_SEGMENTED_BYTES = 65_000


class Session:
    """`endpoint` is connected to the client and `strangers` on the same port, or it is the listener's and `strangers`
    None. `ended(session, outcome, seconds)` is called once.
    """

    __slots__ = (
        "_began",
        "_ended",
        "_segments",
        "_sheet",
        "_transmit",
        "_waiting",
        "client",
        "endpoint",
        "over",
        "receive",
        "request",
        "source",
        "strangers",
        "transfer",
    )

    def __init__(
        self,
        endpoint: socket.socket,
        strangers: socket.socket | None,
        client: Address,
        request: Request,
        source: Source,
        transfer: Transfer,
        began: float,
        ended: Callable[[Session, str, float], None],
    ) -> None:
        self.endpoint, self.strangers = endpoint, strangers
        self.client, self.request, self.source, self.transfer = client, request, source, transfer
        self.over = False
        self.receive = endpoint.recv
        self._transmit: Callable[[bytes | memoryview], object]
        self._transmit = endpoint.send if strangers is not None else self._send_from_listener
        self._began = began
        self._ended = ended
        self._sheet: Sheet | None = None
        self._waiting = False
        self._segments = True

    def packet(self, packet: bytes, now: float) -> None:
        """From the client; others' are kept away before. Raises `OSError` if the answer cannot leave just now."""
        if len(packet) < 4 or not packet.startswith(_ACK):
            self._unusual(packet, now)
            return
        transfer, sheet, number = self.transfer, self._sheet, packet[2] << 8 | packet[3]
        # The sheet on the table is the one that the last block sent is of.
        if sheet is not None and transfer.sent < sheet.last and (block := transfer.step(number, now)):
            place = (block - sheet.first) * sheet.stride
            # A full socket or a way that is gone raises OSError, which the caller ignores: the timer goes on.
            self._transmit(sheet.packets[place : place + sheet.stride])
        elif transfer.acknowledged(number, now):
            if transfer.done:
                self.end("completed", now)
            else:
                self.pump(now)

    def pump(self, now: float) -> None:
        """Send what may be sent."""
        transfer = self.transfer
        while True:
            first, through = transfer.wanted()
            if first > through or self.over:
                return
            if first == 0:
                if self._send_one(encode(OptionAck(transfer.terms.answered))):
                    transfer.was_sent(0, now)
                return
            sheet = self._sheet
            if sheet is None or not sheet.first <= first <= sheet.last:
                sheet = self._turn_to(first, now)
                if sheet is None:
                    return
            if through > sheet.last:
                through = sheet.last
            sent = self._send(sheet, first, through)
            if sent >= first:
                transfer.was_sent(sent, now)
            if sent < sheet.last or sheet.final:
                return

    def tick(self, now: float) -> None:
        """For timers, some 20 times a second."""
        if self._waiting:
            self.transfer.postpone(now)
        match self.transfer.timer(now):
            case Due.SEND_AGAIN:
                self.pump(now)
            case Due.GIVE_UP:
                self.tell(ErrorCode.UNDEFINED, "no acknowledgement came for too long")
                self.end("timed_out", now)
            case Due.NOTHING:
                first, through = self.transfer.wanted()
                if first <= through and not self._waiting:  # the socket was full
                    self.pump(now)

    def resume(self, failure: Failure | None, now: float) -> None:
        """A sheet that was missing has arrived, or cannot."""
        if self.over:
            return
        self._waiting = False
        if failure is None:
            self.pump(now)
        else:
            self._fail(failure, now)

    def tell(self, error: ErrorCode, message: str) -> None:
        """ERROR to the client, best effort."""
        self._send_one(encode(Refusal(error, message)))

    def end(self, outcome: str, now: float) -> None:
        if self.over:
            return
        self.over = True
        self._sheet = None
        self.source.close()
        transfer = self.transfer
        log.info(
            "tftp transfer",
            client=self.client[0],
            file=self.request.name[:200],
            outcome=outcome,
            bytes=self.acknowledged_bytes,
            options=dict(transfer.terms.answered),
            resent=transfer.resent,
            milliseconds=round((now - self._began) * 1000, 1),
        )
        self._ended(self, outcome, now - self._began)

    @property
    def acknowledged_bytes(self) -> int:
        reached = max(0, self.transfer.base) * self.transfer.terms.block_bytes
        return reached if self.source.size is None else min(reached, self.source.size)

    def _turn_to(self, block: int, now: float) -> Sheet | None:
        try:
            sheet = self.source.sheet(block)
        except Failure as failure:
            self._fail(failure, now)
            return None
        self._waiting = sheet is None
        if sheet is not None:
            self._sheet = sheet
            if sheet.final:
                self.transfer.last = sheet.last
        return sheet

    def _send(self, sheet: Sheet, first: int, through: int) -> int:
        """The last block that left; `first - 1`: none, the socket is full or the network away."""
        sent = first - 1
        if self._segments and through > first:
            sent = self._send_segmented(sheet, first, through)
        while sent < through and self._send_one(sheet.stretch(sent + 1, sent + 1)):
            sent += 1
        return sent

    def _send_segmented(self, sheet: Sheet, first: int, through: int) -> int:
        """A window with one system call per 64 datagrams. Not every kernel or device can: then one by one."""
        step = min(_MOST_SEGMENTS, _MOST_SEGMENTED_BYTES // sheet.stride)
        control = [(_UDP, _UDP_SEGMENT, sheet.stride.to_bytes(2, "little"))]
        sent = first - 1
        while sent < through and step > 1:
            upper = min(sent + step, through)
            try:
                self.endpoint.sendmsg(
                    [sheet.stretch(sent + 1, upper)], control, 0, None if self.strangers else self.client
                )
            except (BlockingIOError, ConnectionRefusedError):
                return sent
            except OSError:
                self._segments = False
                return sent
            sent = upper
        return sent

    def _send_one(self, packet: bytes | memoryview) -> bool:
        try:
            self._transmit(packet)
        except OSError:  # full, or no way there just now: the timer goes on
            return False
        return True

    def _send_from_listener(self, packet: bytes | memoryview) -> None:
        self.endpoint.sendto(packet, self.client)

    def _unusual(self, packet: bytes, now: float) -> None:
        try:
            meant = decode(packet)
        except PacketMalformed:
            return
        if isinstance(meant, Refusal):
            # EDK2 asks for the size first and refuses with 8 as soon as it has it: no failure.
            self.end("probed" if self.transfer.base < 1 else "aborted", now)
        elif not isinstance(meant, Ack | Data | Request):
            self.tell(ErrorCode.ILLEGAL, "this is a read")
            self.end("aborted", now)

    def _fail(self, failure: Failure, now: float) -> None:
        self.tell(ErrorCode.UNDEFINED, failure.detail)
        log.warning("tftp transfer broke", file=self.request.name[:200], error=str(failure))
        self.end("failed", now)


def refuse_stranger(endpoint: socket.socket, packet: bytes, sender: Address) -> None:
    """ERROR 5, unless it was an ERROR."""
    if packet[:2] != b"\0\5":
        answer(endpoint, sender, ErrorCode.UNKNOWN_TRANSFER, "this transfer is not yours")


def answer(endpoint: socket.socket, client: Address, error: ErrorCode, message: str) -> None:
    """Best effort: who misses it asks again."""
    try:
        endpoint.sendto(encode(Refusal(error, message)), client)
    except OSError:
        return
