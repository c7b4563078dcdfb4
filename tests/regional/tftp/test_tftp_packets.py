"""The codec: whatever was encoded comes back, whatever arrives is understood or named malformed."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional.tftp.packet import Ack, Data, OptionAck, Packet, PacketMalformed, Refusal, Request, decode, encode

NUMBERS = st.integers(0, 65535)
WORDS = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=20)
OPTIONS = st.dictionaries(WORDS.map(str.lower), WORDS, max_size=4)
PACKETS: st.SearchStrategy[Packet] = st.one_of(
    st.builds(Request, WORDS, WORDS.map(str.lower), OPTIONS, st.booleans()),
    st.builds(Data, NUMBERS, st.binary(max_size=2000)),
    st.builds(Ack, NUMBERS),
    st.builds(Refusal, NUMBERS, st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=100)),
    st.builds(OptionAck, OPTIONS),
)


@given(PACKETS)
def test_a_packet_comes_back_from_its_bytes(packet: Packet) -> None:
    with contextlib.suppress(PacketMalformed):  # longer than a request may be
        assert decode(encode(packet)) == packet


@given(st.one_of(st.binary(max_size=700), st.builds(bytes.__add__, st.sampled_from([b"\0\1", b"\0\6"]), st.binary())))
def test_any_bytes_are_a_packet_or_malformed(packet: bytes) -> None:
    with contextlib.suppress(PacketMalformed):
        understood = decode(packet)
        if not isinstance(understood, Refusal):
            assert decode(encode(understood)) == understood


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\0",
        b"\0\1\0",
        b"\0\1name",
        b"\0\1name\0",
        b"\0\1name\0octet",
        b"\0\1\0octet\0",
        b"\0\1name\0\0",
        b"\0\1\xff\xfe\0octet\0",
        b"\0\1na\nme\0octet\0",
        b"\0\1name\0octet\0blksize\0",
        b"\0\1name\0octet\0\0" + b"512\0",
        b"\0\1" + b"a" * 511 + b"\0octet\0",
        b"\0\7\0\0",
        b"\1\1name\0octet\0",
    ],
)
def test_malformed_packets_are_named_so(packet: bytes) -> None:
    with pytest.raises(PacketMalformed):
        decode(packet)


def test_options_have_no_case_and_the_first_counts_and_padding_is_nothing() -> None:
    packet = b"\0\1a/b\0OCTET\0BlkSize\x001024\0blksize\x00512\0\0\0\0"
    assert decode(packet) == Request("a/b", "octet", {"blksize": "1024"})


def test_a_padded_acknowledgement_counts() -> None:
    assert decode(b"\0\4\1\2" + bytes(14)) == Ack(258)


def test_a_boots_token_is_shown_to_nobody() -> None:
    assert Request(f"/boot/s/{'aB3-_' * 8}xyz/kernel").shown == "/boot/s/.../kernel"
    assert Request("static/shimx64.efi").shown == "static/shimx64.efi"
