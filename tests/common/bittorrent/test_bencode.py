"""Bencoding is canonical both ways, and hostile bytes are refused before they cost anything."""

from __future__ import annotations

import libtorrent as lt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.bittorrent.bencode import MAXIMUM_DEPTH, BencodeInvalid, decode, encode

numbers = st.integers(min_value=-(2**63), max_value=2**63 - 1)
values = st.recursive(
    numbers | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_what_is_encoded_decodes_to_the_same_value(value):
    assert decode(encode(value)) == value


@given(values)
def test_libtorrent_encodes_the_same_bytes(value):
    assert encode(value) == lt.bencode(value)


@given(st.binary(max_size=60) | st.text(alphabet="0123456789:ilde-", max_size=30).map(str.encode))
def test_what_decodes_is_the_only_spelling_of_its_value(data):
    try:
        value = decode(data)
    except BencodeInvalid:
        return
    assert encode(value) == data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cut off"),
        (b"i1", "no end"),
        (b"ie", "shortest"),
        (b"i-e", "shortest"),
        (b"i-0e", "shortest"),
        (b"i03e", "shortest"),
        (b"i+3e", "shortest"),
        (b"i 3e", "shortest"),
        (b"i1_0e", "shortest"),
        ("i\u0663e".encode(), "shortest"),
        (b"i9223372036854775808e", "64 bits"),
        (b"i99999999999999999999999e", "digits"),
        (b"-1:a", "shortest"),
        (b"01:a", "shortest"),
        (b"5:abcd", "cut off"),
        (b"9999999999:a", "cut off"),
        (b"3", "no end"),
        (b"l", "cut off"),
        (b"li1e", "cut off"),
        (b"d", "no end"),
        (b"d1:a", "cut off"),
        (b"d1:ai1e", "no end"),
        (b"di1ei1ee", "no end"),
        (b"d1:bi1e1:ai1ee", "not in order"),
        (b"d1:ai1e1:ai2ee", "repeated"),
        (b"i1ei2e", "bytes follow"),
        (b"i1e\n", "bytes follow"),
        (b"x", "no end"),
        (b"l" * 10_000_000, "levels deep"),
        (b"l" + b"le" * 200_000 + b"e", "100000 values"),
    ],
)
def test_a_second_spelling_or_a_bomb_is_refused(data, why):
    with pytest.raises(BencodeInvalid, match=why):
        decode(data)


def test_more_bytes_than_allowed_are_not_looked_at():
    with pytest.raises(BencodeInvalid, match="more than the 4 allowed"):
        decode(b"4:spam", maximum_bytes=4)


def test_the_greatest_depth_passes_and_one_more_does_not():
    decode(b"l" * (MAXIMUM_DEPTH + 1) + b"e" * (MAXIMUM_DEPTH + 1))
    with pytest.raises(BencodeInvalid):
        decode(b"l" * (MAXIMUM_DEPTH + 2) + b"e" * (MAXIMUM_DEPTH + 2))


def test_an_encoder_refuses_what_could_not_come_back():
    nested = []
    for _ in range(MAXIMUM_DEPTH + 1):
        nested = [nested]
    for value in (True, None, 1.5, "text", {"text": 1}, 2**63, nested):
        with pytest.raises(BencodeInvalid):
            encode(value)


def test_views_and_arrays_of_bytes_are_strings():
    assert encode([memoryview(b"ab"), bytearray(b"c")]) == b"l2:ab1:ce"
