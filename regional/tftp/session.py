"""One transfer on its socket: acknowledgements in, stretches of sheets out, one log line at the end.

Invariants: nobody but the client that began the transfer moves or ends it (RFC 1350, section 4); an ERROR is never
answered; no call waits.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from common.errors import Failure
from regional.tftp.packet import ACK, ERROR, HEADER_BYTES, ErrorCode, OptionAck, Refusal, Request, encode
from regional.tftp.sheets import Sheet
from regional.tftp.sources import Source
from regional.tftp.transfer import Due, Transfer

log = structlog.get_logger()

Address = tuple[Any, ...]
_ACK, _ERROR = ACK.to_bytes(2, "big"), ERROR.to_bytes(2, "big")
_UDP, _UDP_SEGMENT = 17, 103
# The kernel takes 64 datagrams of at most one IP packet in all with one call (linux/udp.h, UDP_MAX_SEGMENTS).
_MOST_SEGMENTS = 64
_MOST_SEGMENTED_BYTES = 65_000


class Session:
    """`endpoint` is connected to the client and `strangers` on the same port, or it is the listener's and `strangers`
    None. `ended(session, outcome, seconds)` is called once.
    """

    __slots__ = (
        "_awaited",
        "_awaited_by_place",
        "_began",
        "_descriptor",
        "_ended",
        "_heard",
        "_packets",
        "_place",
        "_segments",
        "_settled",
        "_sheet",
        "_transmit",
        "_waiting",
        "client",
        "endpoint",
        "over",
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
        self._descriptor = endpoint.fileno()
        self._transmit: Callable[[bytes | memoryview], object]
        self._transmit = endpoint.send if strangers is not None else self._send_from_listener
        self._began = began
        self._ended = ended
        self._sheet: Sheet | None = None
        self._waiting = False
        self._segments = True
        # Lock-step is a run over the packets of a sheet: what is awaited, where the next packet is, when the last one
        # left, and how much of that the transfer knows. `_awaited` None: no run.
        self._awaited: bytes | None = None
        self._packets: tuple[memoryview, ...] = ()
        self._awaited_by_place: tuple[bytes | None, ...] = ()
        self._place = self._settled = 0
        self._heard = began

    def readable(self, now: float) -> None:
        """Something came to the endpoint. Raises `OSError` if nothing did, or nothing more."""
        # `read` and `write` take 0.1 of the 1.1 microseconds of `recv` and `send`; no more of a packet matters.
        packet = os.read(self._descriptor, HEADER_BYTES)
        if packet == self._awaited:
            # As in `packet`: this is what 2,000 clients have each block pass.
            place = self._place
            os.write(self._descriptor, self._packets[place])
            self._awaited = self._awaited_by_place[place]
            self._place = place + 1
            self._heard = now
            return
        # The epoll tells but once of packets that came together.
        while not self.over:
            self.packet(packet, now)
            packet = os.read(self._descriptor, HEADER_BYTES)

    def packet(self, packet: bytes, now: float) -> None:
        """From the client; others' are kept away before. Raises `OSError` if the answer cannot leave just now."""
        if packet[:HEADER_BYTES] == self._awaited:
            place = self._place
            # A full socket or a way that is gone raises OSError, which the caller ignores: the timer goes on.
            self._transmit(self._packets[place])
            self._awaited = self._awaited_by_place[place]
            self._place = place + 1
            self._heard = now
            return
        self._settle()
        self._awaited = None
        if len(packet) < HEADER_BYTES or not packet.startswith(_ACK):
            self._unusual(packet, now)
        elif self.transfer.acknowledged(packet[2] << 8 | packet[3], now):
            if self.transfer.done:
                self.end("completed", now)
            else:
                self.pump(now)
        self._run()

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

    def heard_lately(self, now: float) -> bool:
        """Whether the client made progress, or began, within its own timeout."""
        self._settle()
        return self.transfer.heard_lately(now)

    def tick(self, now: float) -> None:
        """For timers, some 20 times a second."""
        self._settle()
        if self._waiting:
            self.transfer.postpone(now)
        elif now >= self.transfer.deadline and self.strangers is not None:
            # An answer may lie here that a copy of the one before it has hidden.
            with suppress(OSError):
                self.readable(now)
            self._settle()
        if not self.over:
            self._timer(now)

    def _timer(self, now: float) -> None:
        match self.transfer.timer(now):
            case Due.SEND_AGAIN:
                self._awaited = None
                self.pump(now)
                self._run()
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
        self._settle()
        self.over = True
        self._awaited = self._sheet = None
        self._descriptor = -1
        self.source.close()
        transfer = self.transfer
        log.info(
            "tftp transfer",
            client=self.client[0],
            file=self.request.shown,
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

    def _run(self) -> None:
        """Begin a run if the transfer and the sheet are fit for one."""
        transfer, sheet = self.transfer, self._sheet
        if sheet is not None and sheet.first <= transfer.sent < sheet.last and transfer.steady:
            self._packets, self._awaited_by_place = sheet.steps
            self._place = self._settled = transfer.sent - sheet.first + 1
            self._awaited = self._awaited_by_place[self._place - 1]

    def _settle(self) -> None:
        """Tell the transfer how far the run went."""
        if self._place != self._settled and self._sheet is not None:
            self._settled = self._place
            self.transfer.stepped(self._sheet.first + self._place - 1, self._heard)

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
        if packet.startswith(_ERROR):
            # EDK2 asks for the size first and refuses with 8 as soon as it has it: no failure.
            self.end("probed" if self.transfer.base < 1 else "aborted", now)

    def _fail(self, failure: Failure, now: float) -> None:
        self.tell(ErrorCode.UNDEFINED, failure.detail)
        log.warning("tftp transfer broke", file=self.request.shown, error=str(failure))
        self.end("failed", now)
