"""Whatever is in a DHCP message that decodes, its answer is whole, within its limit, and breaks nobody's lease."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from regional.boot_targets import BootMap
from regional.dhcp import options as o
from regional.dhcp.events import seen
from regional.dhcp.handler import Arrival, Handler
from regional.dhcp.leases import LeaseBook, State
from regional.dhcp.packet import Packet, PacketInvalid, decode, encode
from regional.dhcp.replies import PROXY_PORT, SERVER_PORT
from regional.dhcp.rivals import Rivals
from regional.dhcp.subnets import Subnets

from .packets import MAC, SERVER, ip, subnet

MESSAGES = st.integers(0, 9).map(lambda kind: bytes((kind,)))
VALUES = st.one_of(st.binary(max_size=8), st.binary(max_size=20), st.integers(0, 3000).map(bytes))
NAMED = st.sampled_from(
    [
        *(o.REQUESTED_ADDRESS, o.SERVER_ID, o.PARAMETERS, o.LONGEST, o.VENDOR_CLASS, o.CLIENT_ID, o.USER_CLASS),
        *(o.RELAY_AGENT, o.ARCHITECTURE, o.UNDI, o.MACHINE_ID, o.SUBNET_SELECTION, o.IPXE, o.VENDOR, o.HOST_NAME),
    ]
)
LIKELY = st.sampled_from(
    [
        *(
            o.address(SERVER),
            o.address(ip("10.77.0.10")),
            o.address(ip("10.77.0.99")),
            b"PXEClient:Arch:00007",
            b"iPXE",
        ),
        *(
            b"HTTPClient:Arch:00016",
            b"\x05\x04\x0a\x4d\0\0",
            b"\x0b\x04\xff\xff\xff\xff",
            b"\0" + bytes(16),
            b"\xff\xff",
        ),
        *(b"\0\7", b"\0\0", b"PXEClient:Arch:99999", bytes(255) * 9, b"\x52" * 1500),
    ]
)
ADDRESSES = st.sampled_from([0, 0xFFFFFFFF, SERVER, ip("10.77.0.10"), ip("10.77.0.99"), ip("192.0.2.1")])
PACKETS = st.builds(
    lambda kind, options, chaddr, **more: Packet(1, 7, chaddr, {o.MESSAGE_TYPE: kind, **options}, **more),
    kind=MESSAGES,
    options=st.dictionaries(NAMED, st.one_of(VALUES, LIKELY), max_size=8),
    chaddr=st.sampled_from([MAC, b"", bytes(6), bytes(16), b"\xff" * 6, bytes.fromhex("525400000099")]),
    htype=st.integers(0, 255),
    flags=st.integers(0, 0xFFFF),
    ciaddr=ADDRESSES,
    giaddr=ADDRESSES,
)


def handlers() -> list[tuple[LeaseBook, Handler]]:
    found = []
    for here in (subnet(), subnet(proxy=True), subnet(authoritative=False, circuit_limit=1, keep_percent=50)):
        every = Subnets((here,))
        book = LeaseBook(every)
        found.append((book, Handler(every, book, BootMap("http://10.77.0.1", "http://10.77.0.1/{mac}"))))
    return found


@given(st.lists(PACKETS, min_size=1, max_size=4), st.sampled_from([SERVER_PORT, PROXY_PORT]))
@settings(max_examples=100, deadline=None)
def test_every_message_gets_a_whole_answer_or_none(packets: list[Packet], port: int) -> None:
    for book, handler in handlers():
        for number, packet in enumerate(packets):
            outcome = handler.handle(decode(encode(packet)), Arrival("eth0", port), number)
            seen(outcome, "eth0")
            assert outcome.verdict
            for lease in book.every():
                assert lease.state is State.DECLINED or lease.client
                assert lease.address in range(ip("10.77.0.10"), ip("10.77.0.13")) or lease.address == ip("10.77.0.99")
            if outcome.answer is None:
                continue
            data = encode(outcome.answer, outcome.limit, outcome.overload)
            # What a relay added goes back whole, however long it is.
            relayed = len(outcome.answer.options.get(o.RELAY_AGENT, b"")) + 2
            assert len(data) <= max(outcome.limit, 300) + relayed
            assert decode(data).options[o.MESSAGE_TYPE] == outcome.answer.options[o.MESSAGE_TYPE]


@given(st.binary(max_size=1500), PACKETS)
@settings(max_examples=100, deadline=None)
def test_a_message_with_foreign_bytes_in_it_is_read_or_refused(noise: bytes, packet: Packet) -> None:
    data = encode(packet)
    for damaged in (data[:240] + noise, data[:236] + noise, data[: len(noise)], noise):
        try:
            found = decode(damaged)
        except PacketInvalid:
            continue
        for _, handler in handlers():
            handler.handle(found, Arrival("eth0"), 0)
        Rivals(Subnets((subnet(),))).heard("eth0", found, 0, 0)
