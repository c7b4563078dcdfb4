"""The shell around the handler: datagrams in, answers out, each only after what it promises is durable.

Invariant: no datagram ends the server, whatever is in it; work in flight is bounded (the committer's queue,
`_MOST_PROBES`), and what exceeds it is dropped, for every DHCP client asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address
from typing import Any

import structlog

from common.clock import Clock
from regional.dhcp.committing import Committer
from regional.dhcp.events import Watch, nobody_watches, seen
from regional.dhcp.handler import Arrival, Handler, Outcome, set_aside
from regional.dhcp.leases import LeaseBook
from regional.dhcp.packet import Packet, PacketInvalid, decode, encode
from regional.dhcp.probing import Probe
from regional.dhcp.rates import Rate, RateLimit
from regional.dhcp.wire import Line
from regional.watching import careful

log = structlog.get_logger()

Spawn = Callable[[str, Coroutine[Any, Any, None]], object]
Count = Callable[[str], None]

# What is read before others get a turn of the loop.
_AT_ONCE = 64
_LARGEST = 4096
_MOST_PROBES = 64
_MOST_TRIES = 3
# A flood must not fill the log too.
_LINES_OF_LOG = Rate(each_second=5, burst=50)


class DhcpServer:
    """`count` is told the verdict of every datagram, `watch` of every decision about somebody, after its answer left.
    `of_client` and `of_interface` bound what is looked at.
    """

    def __init__(
        self,
        handler: Handler,
        book: LeaseBook,
        committer: Committer,
        probe: Probe,
        clock: Clock,
        spawn: Spawn,
        count: Count,
        of_client: Rate,
        of_interface: Rate,
        watch: Watch = nobody_watches,
    ) -> None:
        self._handler = handler
        self._book = book
        self._committer = committer
        self._probe = probe
        self._clock = clock
        self._spawn = spawn
        self._count = count
        self._watch = careful(watch)
        self._clients = RateLimit(of_client)
        self._interfaces = RateLimit(of_interface)
        self._log_lines = RateLimit(_LINES_OF_LOG)
        self._asking: set[int] = set()

    async def serve(self, lines: Sequence[Line]) -> None:
        """Until it is cancelled. The lines stay the caller's."""
        loop = asyncio.get_running_loop()
        for line in lines:
            loop.add_reader(line.udp, partial(self._readable, line))
        try:
            await self._committer.run()
        finally:
            for line in lines:
                loop.remove_reader(line.udp)

    def _readable(self, line: Line) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, source = line.udp.recvfrom(_LARGEST)
            except BlockingIOError:
                return
            except OSError as error:
                # The interface went down, or an earlier answer was refused; the socket stays good.
                log.debug("nothing read for DHCP", interface=line.interface, error=str(error))
                return
            try:
                self._count(self._received(line, data, source))
            except Exception:
                self._count("failed")
                log.exception("a DHCP request failed", interface=line.interface, size=len(data))

    def _received(self, line: Line, data: bytes, source: tuple[str, int]) -> str:
        now = self._clock.monotonic()
        # In a flood of invented clients those we know are still heard; each has its own limit.
        if not self._interfaces.allows(line.interface.encode(), now) and not self._handler.knows(data[28:34].hex(":")):
            return "interface limit"
        try:
            packet = decode(data)
        except PacketInvalid as failure:
            log.debug("not DHCP", interface=line.interface, source=source[0], error=str(failure))
            return "malformed"
        if not self._clients.allows(packet.chaddr, now):
            return "client limit"
        arrival = Arrival(line.interface, line.port, int(IPv4Address(source[0])), source[1])
        return self._decide(line, packet, arrival, tries=0)

    def _decide(self, line: Line, packet: Packet, arrival: Arrival, tries: int) -> str:
        outcome = self._handler.handle(packet, arrival, self._clock.monotonic())
        if outcome.answer is not None and outcome.answer.yiaddr in self._asking:
            return "being probed"
        if outcome.ask and tries < _MOST_TRIES and len(self._asking) < _MOST_PROBES:
            self._asking.add(outcome.ask)
            self._spawn("dhcp probe", self._ask(line, packet, arrival, outcome, tries))
            return "probe"
        if outcome.lease is None:
            self._answer(line, outcome)
            return outcome.verdict
        if not self._committer.submit(outcome.lease, partial(self._stored, line, outcome)):
            self._undo(outcome)
            return "queue full"
        return outcome.verdict

    async def _ask(self, line: Line, packet: Packet, arrival: Arrival, outcome: Outcome, tries: int) -> None:
        subnet = outcome.subnet
        try:
            used = await self._probe.in_use(subnet.interface if subnet else "", outcome.ask)
        finally:
            self._asking.discard(outcome.ask)
        if not used:
            self._answer(line, outcome)
            return
        log.warning("an address is in use without a lease", address=str(IPv4Address(outcome.ask)))
        self._count("conflict")
        set_aside(self._book, outcome, self._clock.monotonic())
        self._count(self._decide(line, packet, arrival, tries + 1))

    def _stored(self, line: Line, outcome: Outcome, stored: bool) -> None:
        if stored:
            self._answer(line, outcome)
        else:
            self._count("not stored")
            self._undo(outcome)

    def _undo(self, outcome: Outcome) -> None:
        if outcome.lease is not None and outcome.subnet is not None and outcome.answer is not None:
            self._book.undo(outcome.subnet, outcome.lease, outcome.before, self._clock.monotonic())

    def _answer(self, line: Line, outcome: Outcome) -> None:
        self._tell(line, outcome)
        if outcome.answer is not None and outcome.to is not None and outcome.subnet is not None:
            data = encode(outcome.answer, outcome.limit, outcome.overload)
            # No route to a relay, a full buffer: the client asks again.
            with suppress(OSError):
                line.send(data, outcome.to, outcome.subnet.server)
        if (event := seen(outcome, line.interface)) is not None:
            self._watch(event)

    def _tell(self, line: Line, outcome: Outcome) -> None:
        """One line for what an operator looks for when a machine does not boot; the rest at debug."""
        client = outcome.client
        if client is None:
            return
        loud = outcome.verdict in (
            "nak",
            "declined",
            "no address free",
            "kept for known machines",
            "too many newcomers",
        )
        if not loud and not client.is_firmware:
            return
        if not self._log_lines.allows(outcome.verdict.encode(), self._clock.monotonic()):
            return
        asker, answer = client.boot, outcome.answer
        (log.warning if loud else log.info)(
            "dhcp",
            verdict=outcome.verdict,
            mac=client.mac,
            address=str(IPv4Address(answer.yiaddr)) if answer is not None and answer.yiaddr else None,
            interface=line.interface,
            architectures=list(asker.architectures) if asker else None,
            ipxe=asker.ipxe if asker else None,
            file=outcome.boot.name if outcome.boot else None,
        )
