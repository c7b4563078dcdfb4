"""The announce query, byte by byte."""

from __future__ import annotations

import ipaddress
from urllib.parse import quote, quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.digest import Digest
from regional.announce import parse_announce
from regional.tracker import AnnounceInvalid

HASH = bytes(range(240, 256)) + b"&=%+"


def query(**fields: str) -> str:
    given = {"token": "t.o.k", "info_hash": quote_from_bytes(HASH, safe=""), "port": "6881", "left": "10", **fields}
    return "&".join(f"{name}={value}" for name, value in given.items())


def test_an_announce_is_read() -> None:
    parsed = parse_announce(query(event="started", numwant="30", compact="1", uploaded="0", peer_id="-LA0100-%ff"))
    assert parsed.info_hash == HASH
    assert (parsed.token, parsed.port, parsed.left_bytes, parsed.wanted) == ("t.o.k", 6881, 10, 30)
    assert not parsed.stopped


def test_the_content_may_be_named() -> None:
    digest = Digest.of(b"x")
    assert parse_announce(query(digest=str(digest))).digest == digest
    assert parse_announce(query(digest=quote(str(digest), safe=""))).digest == digest
    assert parse_announce(query()).digest is None


@given(st.binary(min_size=20, max_size=20))
def test_every_info_hash_survives_its_encoding(info_hash: bytes) -> None:
    assert parse_announce(query(info_hash=quote_from_bytes(info_hash, safe=""))).info_hash == info_hash
    everything_escaped = "".join(f"%{byte:02x}" for byte in info_hash)
    assert parse_announce(query(info_hash=everything_escaped)).info_hash == info_hash


@given(st.text(max_size=200))
def test_garbage_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(AnnounceInvalid):
        parse_announce(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"digest": "sha256:abc"},
        {"info_hash": "abc"},
        {"info_hash": "%aa" * 32},
        {"port": "0"},
        {"port": "65536"},
        {"port": "six"},
        {"port": ""},
        {"token": ""},
        {"left": "1e9"},
        {"compact": "0"},
        {"port": "1&port=2"},
    ],
)
def test_a_wrong_field_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(AnnounceInvalid):
        parse_announce(query(**fields))


def test_a_missing_left_is_a_leecher_and_minus_one_means_no_wish() -> None:
    without = "&".join(part for part in query(numwant="-1").split("&") if not part.startswith("left"))
    parsed = parse_announce(without)
    assert parsed.left_bytes > 0
    assert parsed.wanted == 50


def test_the_address_is_the_connection_s_and_a_mapped_one_is_plain_ipv4() -> None:
    parsed = parse_announce(query(ip="192.0.2.9"))
    assert parsed.announce("host/1", "::ffff:10.0.0.7").endpoint.address == ipaddress.ip_address("10.0.0.7")
    assert parsed.announce("host/1", "fe80::1%eth0").endpoint.address == ipaddress.ip_address("fe80::1")
    with pytest.raises(AnnounceInvalid):
        parsed.announce("host/1", "")
