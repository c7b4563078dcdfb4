"""One request in, what to do about it out: RFC 2131's server as a function of packet, leases and time; pure.

Invariant: an answer that promises an address carries the lease that must be durable first (`Outcome.lease`). A server
that is not the only one (`authoritative` false) says no only to those who chose it. Requests of nobody's network, and
those meant for another server, are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from regional.boot_targets import BootFile
from regional.dhcp import options as o
from regional.dhcp.choosing import Boots
from regional.dhcp.client import Client, client_of
from regional.dhcp.leases import Lease, LeaseBook, State, Wish
from regional.dhcp.packet import BROADCAST_FLAG, REQUEST, Packet
from regional.dhcp.rates import UNLIMITED, Rate, RateLimit
from regional.dhcp.replies import (
    CLIENT_PORT,
    PROXY_PORT,
    SERVER_PORT,
    Destination,
    Options,
    boot_options,
    destination,
    host_options,
    lease_times,
    reply,
    size_limit,
)
from regional.dhcp.subnets import Reservation, Subnet, Subnets


@dataclass(frozen=True, slots=True)
class Arrival:
    """`port`: ours. `source` and `source_port`: the sender's."""

    interface: str
    port: int = SERVER_PORT
    source: int = 0
    source_port: int = CLIENT_PORT


@dataclass(frozen=True, slots=True)
class Outcome:
    """`verdict` in a word or two, for metrics. `answer` goes to `to` once `lease` is durable; `before` is what held for
    its address until now. `ask`: find out first whether anybody uses this address. `chosen`: a server that is not ours,
    whose offer the client took.
    """

    verdict: str
    answer: Packet | None = None
    to: Destination | None = None
    limit: int = 0
    overload: bool = False
    subnet: Subnet | None = None
    client: Client | None = None
    boot: BootFile | None = None
    lease: Lease | None = None
    before: Lease | None = None
    ask: int = 0
    chosen: int = 0


@dataclass(frozen=True, slots=True)
class _Case:
    packet: Packet
    subnet: Subnet
    client: Client
    reservation: Reservation | None
    wish: Wish
    now: float
    server_id: int

    @property
    def wanted(self) -> bytes | None:
        return self.packet.options.get(o.PARAMETERS)

    @property
    def seconds(self) -> int:
        """A stage that boots lasts minutes; the system that follows asks again, as the same machine."""
        return self.subnet.firmware_seconds if self.client.is_firmware else self.subnet.lease_seconds

    @property
    def chosen(self) -> int:
        return o.read_address(self.packet.options.get(o.SERVER_ID))


class Handler:
    """`newcomers`: how often clients without a lease may come from one place, that is interface, relay and its port."""

    def __init__(self, subnets: Subnets, book: LeaseBook, boot: Boots, newcomers: Rate = UNLIMITED) -> None:
        self._subnets = subnets
        self._book = book
        self._boot = boot
        self._options = Options()
        self._newcomers = RateLimit(newcomers)

    def knows(self, mac: str) -> bool:
        """Whether it is a machine of ours, whatever its packet says."""
        return self._boot.knows(mac) or any(subnet.reserves(mac) for subnet in self._subnets.every)

    def handle(self, packet: Packet, arrival: Arrival, now: float) -> Outcome:
        kind = packet.options.get(o.MESSAGE_TYPE, b"")
        if packet.op != REQUEST or len(kind) != 1:
            return Outcome("not a request")
        client = client_of(packet)
        if client is None:
            return Outcome("nobody")
        subnet = self._subnet(packet, arrival)
        if subnet is None:
            return Outcome("no network of ours")
        case = self._case(packet, subnet, client, now)
        if arrival.port == PROXY_PORT:
            return self._boot_server(case, kind[0], arrival)
        if subnet.proxy:
            return self._proxy(case) if kind[0] == o.DISCOVER else Outcome("proxy keeps silent")
        return self._by_kind(case, kind[0])

    def _by_kind(self, case: _Case, kind: int) -> Outcome:
        match kind:
            case o.DISCOVER:
                return self._discover(case)
            case o.REQUEST:
                return self._request(case)
            case o.DECLINE:
                return self._decline(case)
            case o.RELEASE:
                return self._release(case)
            case o.INFORM:
                return self._inform(case)
            case _:
                return Outcome("not a client's message")

    def _subnet(self, packet: Packet, arrival: Arrival) -> Subnet | None:
        relay = o.inside(packet.options.get(o.RELAY_AGENT))
        selected = o.read_address(relay.get(o.LINK_SELECTION)) or o.read_address(packet.options.get(o.SUBNET_SELECTION))
        if not selected and not packet.giaddr and packet.ciaddr:
            # It renews by unicast, perhaps through a router: its address says where it is.
            found = self._subnets.holding(packet.ciaddr)
            if found is not None:
                return found
        return self._subnets.find(arrival.interface, packet.giaddr, selected)

    def _case(self, packet: Packet, subnet: Subnet, client: Client, now: float) -> _Case:
        options = packet.options
        reservation = subnet.reservation_of(client, options.get(o.CLIENT_ID))
        wish = Wish(
            client.key,
            reservation.address if reservation else None,
            o.read_address(options.get(o.REQUESTED_ADDRESS)),
            reservation is not None or self._boot.knows(client.mac),
            client.circuit,
        )
        override = o.inside(options.get(o.RELAY_AGENT)).get(o.SERVER_OVERRIDE) if o.RELAY_AGENT in options else None
        return _Case(packet, subnet, client, reservation, wish, now, o.read_address(override) or subnet.server)

    def _discover(self, case: _Case) -> Outcome:
        book, subnet = self._book, case.subnet
        known = book.of(subnet, case.client.key, case.now)
        place = (case.packet.giaddr or id(subnet)).to_bytes(8, "big") + case.client.circuit
        if known is None and not case.wish.known and not self._newcomers.allows(place, case.now):
            return Outcome("too many newcomers", subnet=subnet, client=case.client)
        lease = book.offer(subnet, case.wish, case.now)
        if lease is None:
            verdict = "kept for known machines" if book.crowded(subnet, case.wish) else "no address free"
            return Outcome(verdict, subnet=subnet, client=case.client)
        ask = lease.address if subnet.probe and lease is not known else 0
        return self._promise(case, o.OFFER, "offer", lease.address, ask=ask)

    def _request(self, case: _Case) -> Outcome:
        packet, book, subnet = case.packet, self._book, case.subnet
        if case.chosen:
            if case.chosen != case.server_id:
                book.withdraw(subnet, case.client.key, case.now)
                chosen = case.chosen if case.chosen not in subnet.others else 0
                return Outcome("another server's", subnet=subnet, client=case.client, chosen=chosen)
            return self._grant(case, case.wish.requested or packet.ciaddr, said_no=True)
        address = packet.ciaddr or case.wish.requested
        if not address:
            return Outcome("request without an address")
        held = book.of(subnet, case.client.key, case.now)
        if not subnet.authoritative and (held is None or held.address != address):
            return Outcome("unknown lease")
        return self._grant(case, address, said_no=subnet.authoritative)

    def _grant(self, case: _Case, address: int, *, said_no: bool) -> Outcome:
        before = self._book.at(address, case.now)
        lease = self._book.grant(case.subnet, case.wish, address, case.seconds, case.now)
        if lease is not None:
            return self._promise(case, o.ACK, "ack", address, lease=lease, before=before)
        return self._refuse(case) if said_no else Outcome("unknown lease")

    def _refuse(self, case: _Case) -> Outcome:
        words = {o.MESSAGE: b"this address is not yours here"}
        answer = reply(case.packet, o.NAK, case.server_id, words)
        if case.packet.giaddr:
            # The client has no right address, so the relay must broadcast (RFC 2131 section 4.3.2).
            answer = reply(_broadcast(case.packet), o.NAK, case.server_id, words)
        to = destination(case.packet, answer, o.NAK)
        return Outcome("nak", answer, to, size_limit(case.packet), False, case.subnet, case.client)

    def _decline(self, case: _Case) -> Outcome:
        address = case.wish.requested
        held = self._book.of(case.subnet, case.client.key, case.now)
        if case.chosen != case.server_id or held is None or held.address != address:
            return Outcome("decline of another's address")
        lease = self._book.decline(case.subnet, address, case.now)
        return Outcome("declined", subnet=case.subnet, client=case.client, lease=lease)

    def _release(self, case: _Case) -> Outcome:
        if case.chosen not in (0, case.server_id):
            return Outcome("another server's")
        lease = self._book.release(case.subnet, case.client.key, case.packet.ciaddr, case.now)
        if lease is None:
            return Outcome("release of another's address")
        return Outcome("released", subnet=case.subnet, client=case.client, lease=lease)

    def _inform(self, case: _Case) -> Outcome:
        if not case.packet.ciaddr:
            return Outcome("inform without an address")
        options, boot = self._words(case)
        answer = reply(
            case.packet, o.ACK, case.server_id, options, next_server=case.subnet.server, boot=boot
        )  # without yiaddr and times (RFC 2131 section 4.3.5)
        to = destination(case.packet, answer, o.ACK)
        return self._outcome("inform", case, answer, to, boot)

    def _promise(
        self, case: _Case, kind: int, verdict: str, address: int,
        *, lease: Lease | None = None, before: Lease | None = None, ask: int = 0,
    ) -> Outcome:  # fmt: skip
        options, boot = self._words(case)
        said = {**lease_times(case.seconds), **options}
        answer = reply(
            case.packet, kind, case.server_id, said, address=address, next_server=case.subnet.server, boot=boot
        )
        to = destination(case.packet, answer, kind)
        return Outcome(
            verdict, answer, to, size_limit(case.packet), not case.client.is_firmware, case.subnet, case.client, boot,
            lease, before, ask,
        )  # fmt: skip

    def _words(self, case: _Case) -> tuple[dict[int, bytes], BootFile | None]:
        asker = case.client.boot
        boot = self._boot.file_for(asker) if asker is not None else None
        words = {
            **boot_options(case.packet, case.client, case.subnet.server, boot),
            **self._options.of(case.subnet, case.wanted),
            **host_options(case.reservation, case.wanted),
        }
        return words, boot

    def _proxy(self, case: _Case) -> Outcome:
        """An offer without an address, for those who boot (PXE 2.1 section 2.2.2)."""
        return self._boot_only(case, o.OFFER, "proxy offer", None)

    def _boot_server(self, case: _Case, kind: int, arrival: Arrival) -> Outcome:
        if kind not in (o.REQUEST, o.INFORM):
            return Outcome("not a request")
        to = Destination(arrival.source or case.packet.ciaddr, arrival.source_port)
        return self._boot_only(case, o.ACK, "proxy ack", to)

    def _boot_only(self, case: _Case, kind: int, verdict: str, to: Destination | None) -> Outcome:
        asker = case.client.boot
        boot = self._boot.file_for(asker) if asker is not None else None
        if boot is None:
            return Outcome("nothing to boot")
        words = boot_options(case.packet, case.client, case.subnet.server, boot)
        answer = reply(case.packet, kind, case.subnet.server, words, next_server=case.subnet.server, boot=boot)
        if to is None or not to.address:
            to = destination(case.packet, answer, kind)
        return self._outcome(verdict, case, answer, to, boot)

    def _outcome(self, verdict: str, case: _Case, answer: Packet, to: Destination, boot: BootFile | None) -> Outcome:
        overload = not case.client.is_firmware
        return Outcome(verdict, answer, to, size_limit(case.packet), overload, case.subnet, case.client, boot)


def _broadcast(packet: Packet) -> Packet:
    return Packet(
        packet.op, packet.xid, packet.chaddr, packet.options, packet.htype, flags=packet.flags | BROADCAST_FLAG,
        giaddr=packet.giaddr,
    )  # fmt: skip


def set_aside(book: LeaseBook, outcome: Outcome, now: float) -> None:
    """What `ask` found is in use: it rests, and the client's next DISCOVER gets another."""
    if outcome.subnet is not None and outcome.ask:
        held = book.at(outcome.ask, now)
        if held is not None and held.state is State.OFFERED:
            book.decline(outcome.subnet, outcome.ask, now)
