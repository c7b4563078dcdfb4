"""Metainfo is deterministic, libtorrent reads it as we do, and nothing but our own form parses."""

from __future__ import annotations

import contextlib
import hashlib

import libtorrent as lt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.bittorrent import bencode
from common.bittorrent.merkle import BLOCK, MerkleBuilder
from common.bittorrent.metainfo import MetainfoInvalid, build, parse, piece_length_for, verify_piece
from tests.conformance.peer_certificates import authority

SALT = b"tenant one's salt"


def content(length: int) -> bytes:
    return hashlib.shake_128(length.to_bytes(8)).digest(length)


def metainfo_of(
    data: bytes, piece_length: int = BLOCK, salt: bytes = SALT, name: str = "blob", authority_pem: bytes = b""
):
    builder = MerkleBuilder(piece_length)
    builder.update(data)
    return build(name, *builder.finish(), piece_length, salt, authority_pem)


@pytest.mark.parametrize(
    ("length", "piece_length"),
    [
        (1, 256 << 10),
        (256 << 20, 256 << 10),
        ((256 << 20) + 1, 512 << 10),
        (1 << 30, 1 << 20),
        (4 << 30, 4 << 20),
        (1 << 40, 4 << 20),
    ],
)
def test_a_piece_is_a_thousandth_of_the_file_within_bounds(length, piece_length):
    assert piece_length_for(length) == piece_length


@settings(max_examples=60)
@given(length=st.integers(min_value=1, max_value=12 * BLOCK), piece_length=st.sampled_from([BLOCK, 4 * BLOCK]))
def test_libtorrent_reads_what_we_wrote(length, piece_length):
    metainfo = metainfo_of(content(length), piece_length)
    theirs = lt.load_torrent_buffer(metainfo.encoded).ti
    assert theirs.info_hashes().v2.to_bytes() == metainfo.info_hash
    assert not theirs.info_hashes().has_v1()
    assert theirs.num_pieces() == metainfo.piece_count
    assert theirs.piece_length() == piece_length
    assert theirs.layout().file_size(0) == length
    assert theirs.layout().root(0).to_bytes() == metainfo.pieces_root
    assert theirs.layout().file_path(0) == metainfo.name
    assert theirs.priv()


@given(length=st.integers(min_value=1, max_value=12 * BLOCK), salt=st.binary(min_size=16, max_size=64))
def test_what_is_built_parses_to_the_same(length, salt):
    metainfo = metainfo_of(content(length), salt=salt)
    assert parse(metainfo.encoded) == metainfo
    assert metainfo_of(content(length), salt=salt) == metainfo


def test_another_salt_gives_another_info_hash_over_the_same_tree():
    one, other = metainfo_of(content(99999)), metainfo_of(content(99999), salt=b"tenant two's salt")
    assert one.info_hash != other.info_hash
    assert one.pieces_root == other.pieces_root


def test_pieces_verify_by_index_and_length():
    data = content(4 * BLOCK + 100)
    metainfo = metainfo_of(data)
    last = metainfo.piece_count - 1
    assert all(verify_piece(metainfo, i, data[i * BLOCK : (i + 1) * BLOCK]) for i in range(metainfo.piece_count))
    assert not verify_piece(metainfo, 0, data[BLOCK : 2 * BLOCK])
    assert not verify_piece(metainfo, 0, data[:BLOCK] + b"x")
    assert not verify_piece(metainfo, last, data[last * BLOCK :] + bytes(BLOCK - 100))
    assert not verify_piece(metainfo, last + 1, b"")
    assert not verify_piece(metainfo, -1, data[last * BLOCK :])


def test_a_file_of_one_piece_verifies_against_the_root():
    data = content(5000)
    metainfo = metainfo_of(data, 4 * BLOCK)
    assert metainfo.piece_layer == ()
    assert verify_piece(metainfo, 0, memoryview(data))
    assert not verify_piece(metainfo, 0, data[:-1] + b"x")


def test_a_piece_outside_the_file_has_no_size():
    metainfo = metainfo_of(content(2 * BLOCK))
    for index in (-1, 2):
        with pytest.raises(IndexError):
            metainfo.piece_size(index)


@given(data=st.binary(max_size=80) | st.integers(0, 300).map(lambda cut: metainfo_of(content(3 * BLOCK)).encoded[:cut]))
def test_other_bytes_are_refused_and_never_crash(data):
    with pytest.raises(MetainfoInvalid):
        parse(data)


@given(at=st.integers(min_value=0), bit=st.integers(0, 7))
def test_a_flipped_bit_never_parses_to_the_same_info_hash(at, bit):
    metainfo = metainfo_of(content(5 * BLOCK))
    damaged = bytearray(metainfo.encoded)
    damaged[at % len(damaged)] ^= 1 << bit
    with contextlib.suppress(MetainfoInvalid):
        assert parse(bytes(damaged)).info_hash != metainfo.info_hash


def changed(change):
    outer = bencode.decode(metainfo_of(content(5 * BLOCK)).encoded)
    change(outer)
    return bencode.encode(outer)


@pytest.mark.parametrize(
    "change",
    [
        lambda outer: outer.update({b"announce": b"http://elsewhere/announce"}),
        lambda outer: outer.update({b"url-list": [b"http://elsewhere/blob"]}),
        lambda outer: outer.pop(b"piece layers"),
        lambda outer: outer[b"piece layers"].clear(),
        lambda outer: outer[b"piece layers"].update({b"x" * 32: b""}),
        lambda outer: outer[b"info"].update({b"pieces": b"x" * 20}),
        lambda outer: outer[b"info"].update({b"private": 0}),
        lambda outer: outer[b"info"].pop(b"private"),
        lambda outer: outer[b"info"].update({b"meta version": 1}),
        lambda outer: outer[b"info"].update({b"ssl-cert": b"x"}),
        lambda outer: outer[b"info"].update({b"piece length": 3 * BLOCK}),
        lambda outer: outer[b"info"].update({b"name": b"../../etc/passwd"}),
        lambda outer: outer[b"info"].update({b"name": b"other"}),
        lambda outer: outer[b"info"][b"file tree"].update(
            {b"second": {b"": {b"length": 1, b"pieces root": b"x" * 32}}}
        ),
        lambda outer: outer[b"info"][b"file tree"][b"blob"][b""].update({b"length": 9 * BLOCK}),
        lambda outer: outer[b"info"][b"file tree"][b"blob"][b""].update({b"length": -1}),
    ],
)
def test_metainfo_of_another_form_is_refused(change):
    with pytest.raises(MetainfoInvalid):
        parse(changed(change))


def test_a_false_piece_layer_is_refused():
    def swap(outer):
        layers = outer[b"piece layers"]
        ((root, layer),) = layers.items()
        layers[root] = layer[32:64] + layer[:32] + layer[64:]

    with pytest.raises(MetainfoInvalid, match="does not lead to the pieces root"):
        parse(changed(swap))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "a\0b", "über", "x" * 201, "a\n"])
def test_a_name_that_is_not_a_plain_file_name_is_refused(name):
    with pytest.raises(MetainfoInvalid):
        metainfo_of(b"x", name=name)


@pytest.mark.parametrize("salt", [b"", b"short", b"x" * 65])
def test_a_salt_that_could_be_guessed_is_refused(salt):
    with pytest.raises(MetainfoInvalid):
        metainfo_of(b"x", salt=salt)


def test_an_empty_file_has_no_metainfo():
    with pytest.raises(MetainfoInvalid):
        metainfo_of(b"")


def test_an_authority_makes_another_swarm_and_comes_back():
    plain = metainfo_of(b"content")
    one, other = (metainfo_of(b"content", authority_pem=authority().pem) for _ in range(2))
    assert len({plain.info_hash, one.info_hash, other.info_hash}) == 3
    assert parse(one.encoded) == one
    assert parse(plain.encoded).authority_pem == b""


@pytest.mark.parametrize("change", [b"x", b"\n", b"-----BEGIN CERTIFICATE-----\n"])
def test_what_is_not_one_certificate_is_no_authority(change):
    pem = authority().pem
    for bad in (pem + change, change + pem, pem + pem, pem[:-1]):
        with pytest.raises(MetainfoInvalid):
            metainfo_of(b"content", authority_pem=bad)
