"""DHCP on the wire: round trips, long and overloaded options, and bytes of any kind."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regional.dhcp import options as o
from regional.dhcp.client import client_of
from regional.dhcp.packet import LEAST_SIZE, Packet, PacketInvalid, decode, encode

from .packets import MAC

WORDS = st.integers(0, 2**32 - 1)
TEXT = st.binary(max_size=60).map(lambda data: data.replace(b"\0", b"x"))
CODES = st.integers(1, 254).filter(lambda code: code not in (o.OVERLOAD, o.RELAY_AGENT))
OPTIONS = st.dictionaries(CODES, st.binary(max_size=600), max_size=12)
PACKETS = st.builds(
    Packet, op=st.sampled_from((1, 2)), xid=WORDS, chaddr=st.binary(max_size=16), options=OPTIONS,
    htype=st.integers(0, 255), hops=st.integers(0, 16), secs=st.integers(0, 65535), flags=st.integers(0, 65535),
    ciaddr=WORDS, yiaddr=WORDS, siaddr=WORDS, giaddr=WORDS, sname=TEXT, file=TEXT,
)  # fmt: skip


@settings(max_examples=150)
@given(PACKETS)
def test_what_is_written_is_read_again(packet: Packet) -> None:
    data = encode(packet)
    assert len(data) >= LEAST_SIZE
    assert decode(data) == packet


@settings(max_examples=300)
@given(PACKETS, st.data())
def test_any_bytes_are_a_packet_or_invalid(packet: Packet, data: st.DataObject) -> None:
    written = bytearray(encode(packet))
    for _ in range(data.draw(st.integers(0, 8))):
        written[data.draw(st.integers(0, len(written) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(written[: data.draw(st.integers(0, len(written)))])
    for each in (cut, data.draw(st.binary(max_size=300)), bytes(written[:240]) + data.draw(st.binary(max_size=300))):
        with contextlib.suppress(PacketInvalid):
            client_of(decode(each))


@settings(max_examples=150)
@given(PACKETS.map(lambda each: Packet(each.op, each.xid, MAC, each.options)), st.integers(300, 1500))
def test_a_limit_is_kept_and_what_arrives_is_whole(packet: Packet, limit: int) -> None:
    data = encode(packet, limit)
    assert len(data) <= limit
    read = decode(data)
    assert all(packet.options[code] == value for code, value in read.options.items())


def test_options_overflow_into_unused_fields_and_the_relays_is_last() -> None:
    options = {o.MESSAGE_TYPE: b"\x02", 200: bytes(200), o.RELAY_AGENT: b"\x01\x02ab", 201: bytes(90), 202: bytes(50)}
    packet = Packet(2, 1, MAC, options)
    data = encode(packet, 548 - 40)
    assert decode(data).options == {code: options[code] for code in (53, 200, 82, 201, 202)}
    tight = encode(packet, 480)
    assert tight[236:].rstrip(b"\0").endswith(b"\x52\x04\x01\x02ab\xff")
    assert decode(tight).options[o.RELAY_AGENT] == b"\x01\x02ab"
    for_a_rom = decode(encode(packet, 480, overload=False))
    assert for_a_rom.options.keys() == {53, 200, 82}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:239], "no DHCP message"),
        (lambda data: data[:236] + b"\0\0\0\0" + data[240:], "magic cookie"),
        (lambda data: b"\x03" + data[1:], "neither"),
        (lambda data: data[:2] + b"\x11" + data[3:], "17 bytes"),
        (lambda data: data[:3] + b"\x11" + data[4:], "17 relays"),
        (lambda data: data[:240] + b"\x0c\x40abc", "past the end"),
        (lambda data: data[:240] + b"\x0c", "no length"),
        (lambda data: data[:240] + b"\x34\x01\x07\xff", "overload"),
    ],
)
def test_what_is_wrong_is_named(change: object, words: str) -> None:
    good = encode(Packet(1, 1, MAC, {53: b"\x01"}))
    with pytest.raises(PacketInvalid, match=words):
        decode(change(good))  # type: ignore[operator]


def test_names_are_written_as_their_rfcs_say() -> None:
    assert o.search_list(["a.example", "b"]) == b"\x01a\x07example\x00\x01b\x00"
    assert o.classless_routes([(0x0A000000, 8, 1), (0, 0, 2)]) == b"\x08\x0a\0\0\0\x01\x00\0\0\0\x02"
    assert o.user_classes(b"iPXE") >= {b"iPXE"}
    assert o.user_classes(b"\x04iPXE\x03lab") >= {b"iPXE", b"lab"}
    for wrong in ("", "a..b", "x" * 64, "ü.example"):
        with pytest.raises(o.OptionInvalid):
            o.search_list([wrong])
