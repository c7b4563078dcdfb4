"""The shell: nothing is promised before it is durable, nothing in a datagram ends it, addresses in use are found."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.lifecycle import Lifecycle
from regional.dhcp import options as o
from regional.dhcp.committing import Committer
from regional.dhcp.events import DhcpSeen
from regional.dhcp.lease_store import LeasesNotStored, LeaseStore
from regional.dhcp.leases import Lease, LeaseBook
from regional.dhcp.packet import Packet, decode, encode
from regional.dhcp.rates import Rate
from regional.dhcp.replies import Destination
from regional.dhcp.server import DhcpServer
from regional.dhcp.wire import Line, checksum, datagram
from regional.watching import careful
from tests.pace import BUSY_SECONDS

from .packets import MAC, OTHER, book_of, discover, firmware, ip, request, subnet

RESERVED = bytes.fromhex("525400000099")


@dataclass(frozen=True)
class Recorded(Line):
    """What would leave goes into a list; what comes in is real."""

    sent: list[tuple[Packet, Destination]] = field(default_factory=list)

    def send(self, data: bytes, to: Destination, server: int) -> None:
        self.sent.append((decode(data), to))


class Disk(LeaseStore):
    full = False

    def append(self, leases: object) -> None:
        if self.full:
            raise LeasesNotStored("No space left on device")
        super().append(leases)  # type: ignore[arg-type]


class Neighbours:
    """Who answers when asked."""

    def __init__(self, *present: str) -> None:
        self.present = {ip(each) for each in present}
        self.asked: list[int] = []

    async def in_use(self, interface: str, address: int) -> bool:
        self.asked.append(address)
        await asyncio.sleep(0)
        return address in self.present


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BUSY_SECONDS):
        while not condition():  # noqa: ASYNC110  what is awaited is in other objects' state
            await asyncio.sleep(0.001)


@dataclass
class Bench:
    line: Recorded
    disk: Disk
    book: LeaseBook
    neighbours: Neighbours
    verdicts: Counter[str]
    client: socket.socket
    seen: list[DhcpSeen]
    server: DhcpServer

    def tell(self, packet: Packet | bytes) -> None:
        data = packet if isinstance(packet, bytes) else encode(packet)
        self.client.sendto(data, self.line.udp.getsockname())

    async def until(self, condition: Callable[[], bool]) -> None:
        await until(condition)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = SystemClock()
    udp, client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    udp.bind(("127.0.0.1", 0))
    udp.setblocking(False)
    line = Recorded("eth0", 67, udp, None)
    book, handler = book_of(subnet(probe=True))
    disk = Disk(tmp_path / "leases", clock, "one")
    disk.load()
    neighbours, verdicts, seen = Neighbours("10.77.0.10"), Counter[str](), list[DhcpSeen]()
    async with Lifecycle() as lifecycle:
        server = DhcpServer(
            handler, book, Committer(disk), neighbours, clock, lifecycle.spawn,
            lambda verdict: verdicts.update([verdict]), Rate(20, 20), Rate(1000, 1000),
            seen.append,
        )  # fmt: skip
        lifecycle.spawn("dhcp", server.serve([line]))
        await asyncio.sleep(0)
        yield Bench(line, disk, book, neighbours, verdicts, client, seen, server)
    client.close()
    line.close()
    disk.close()


async def test_an_address_in_use_is_passed_over_and_only_a_new_one_is_asked_for(bench: Bench) -> None:
    bench.tell(discover())
    await bench.until(lambda: len(bench.line.sent) == 1)
    assert bench.line.sent[0][0].yiaddr == ip("10.77.0.11")
    bench.tell(request("10.77.0.11"))
    bench.tell(discover())
    await bench.until(lambda: len(bench.line.sent) == 3)
    assert bench.neighbours.asked == [ip("10.77.0.10"), ip("10.77.0.11")]
    assert bench.verdicts["conflict"] == 1


async def test_a_defect_of_who_watches_costs_nobody_an_address(bench: Bench) -> None:
    def broken(_: DhcpSeen) -> None:
        raise RuntimeError("a defect")

    bench.server._watch = careful(broken)
    for number in range(2):
        bench.tell(request("10.77.0.99", RESERVED, xid=number))
        await bench.until(lambda: len(bench.line.sent) == number + 1)  # noqa: B023
    assert [packet.options[53] for packet, _ in bench.line.sent] == [bytes((o.ACK,))] * 2


async def test_who_watches_is_told_what_was_answered_to_whom(bench: Bench) -> None:
    bench.tell(discover(options=firmware(7)))
    await bench.until(lambda: len(bench.seen) == 1)
    bench.tell(request("10.77.0.11", options={o.ARCHITECTURE: b"\0\7", o.USER_CLASS: b"iPXE"}))
    bench.tell(request("10.77.0.99", OTHER))
    await bench.until(lambda: len(bench.seen) == 3)
    mac = "52:54:00:12:34:56"
    by_verdict = {each.verdict: each for each in bench.seen}
    assert by_verdict["offer"] == DhcpSeen(
        mac, "offer", "eth0", "10.77.0.11", boots=True, architectures=(7,), file="static/ipxe.efi"
    )
    script = "http://10.77.0.1:8081/boot/52-54-00-12-34-56.ipxe"
    assert by_verdict["ack"] == DhcpSeen(
        mac, "ack", "eth0", "10.77.0.11", boots=True, ipxe=True, architectures=(7,), file=script
    )
    assert by_verdict["nak"] == DhcpSeen(OTHER.hex(":"), "nak", "eth0")


async def test_a_full_disk_promises_nothing_and_leaves_others_their_addresses(bench: Bench) -> None:
    bench.disk.full = True
    bench.tell(request("10.77.0.12"))
    await bench.until(lambda: bench.verdicts["not stored"] == 1)
    assert bench.line.sent == []
    bench.disk.full = False
    await asyncio.sleep(1.05)  # the address stays this client's so long, for it asks again
    bench.tell(request("10.77.0.12", OTHER))
    await bench.until(lambda: len(bench.line.sent) == 1)
    answer = bench.line.sent[0][0]
    assert (answer.options[53], answer.chaddr) == (bytes((o.ACK,)), OTHER)
    again = LeaseStore(bench.disk._path, SystemClock(), "one")
    assert [each.client[-6:] for each in again.load().leases] == [OTHER]
    again.close()


async def test_a_failed_renewal_leaves_the_lease_as_it_was(bench: Bench) -> None:
    bench.tell(request("10.77.0.12"))
    await bench.until(lambda: len(bench.line.sent) == 1)
    held = bench.book.at(ip("10.77.0.12"), 0)
    bench.disk.full = True
    bench.tell(request("10.77.0.12"))
    await bench.until(lambda: bench.verdicts["not stored"] == 1)
    assert bench.book.at(ip("10.77.0.12"), 0) == held


async def test_no_datagram_ends_it_and_one_client_cannot_flood(bench: Bench) -> None:
    good = encode(discover())
    for bad in (b"", b"x", bytes(240), good[:200], good[:240] + b"\x0c\xff", good[:238] + b"\0\0" + good[240:]):
        bench.tell(bad)
    # Larger than anything that a client may send: read to a bound, and refused.
    bench.tell(good[:240] + (b"\x0c\xff" + bytes(255)) * 200)
    await bench.until(lambda: bench.verdicts["malformed"] == 7)
    for _ in range(30):
        bench.tell(request("10.77.0.12"))
    await bench.until(lambda: bench.verdicts["client limit"] >= 9)
    bench.tell(request("10.77.0.11", OTHER))
    await bench.until(lambda: any(answer.chaddr == OTHER for answer, _ in bench.line.sent))
    assert bench.verdicts["failed"] == 0


async def test_a_known_machine_gets_its_address_in_a_flood_of_invented_ones(bench: Bench) -> None:
    for start in range(0, 3000, 100):  # as many as the socket's buffer holds
        for number in range(start, start + 100):
            bench.tell(discover(b"\x02" + number.to_bytes(5, "big"), xid=number))
        await bench.until(lambda: sum(bench.verdicts.values()) >= start + 100)  # noqa: B023
    assert bench.verdicts["interface limit"] > 0
    bench.tell(discover(RESERVED))
    await bench.until(lambda: any(answer.chaddr == RESERVED for answer, _ in bench.line.sent))
    assert len(bench.book) <= 4
    assert bench.verdicts["failed"] == 0


async def test_groups_are_stored_once_and_a_full_queue_takes_no_more(tmp_path: Path) -> None:
    groups: list[int] = []

    class Counting(LeaseStore):
        def append(self, leases: object) -> None:
            groups.append(len(list(leases)))  # type: ignore[call-overload]

    committer = Committer(Counting(tmp_path / "leases", SystemClock(), "one"))
    done: list[bool] = []
    some = Lease(1, MAC, "leased", 1.0, 1.0)  # type: ignore[arg-type]
    taken = [committer.submit(some, done.append) for _ in range(8193)]
    assert taken.count(False) == 1
    async with Lifecycle() as lifecycle:
        lifecycle.spawn("commits", committer.run())
        await until(lambda: len(done) == 8192)
    assert (groups, set(done)) == ([8192], {True})


def test_a_frame_to_a_client_without_an_address_has_right_sums() -> None:
    packet = datagram(b"odd", ip("10.77.0.1"), ip("10.77.0.10"))
    assert checksum(packet[:20]) == 0
    pseudo = packet[12:20] + b"\0\x11" + packet[24:26]
    assert checksum(pseudo + packet[20:]) == 0
    assert (packet[20:24], packet[28:]) == (b"\0\x43\0\x44", b"odd")
