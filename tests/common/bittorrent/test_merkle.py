"""The tree is BEP 52's: libtorrent computes the same one over the same file."""

from __future__ import annotations

import hashlib
import itertools

import libtorrent as lt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.bittorrent.merkle import BLOCK, MerkleBuilder, layer_root, piece_root, tree_root


def content(length: int) -> bytes:
    return hashlib.shake_128(length.to_bytes(8)).digest(length)


def tree(data: bytes, piece_length: int):
    builder = MerkleBuilder(piece_length)
    builder.update(data)
    return builder.finish()


def libtorrent_tree(path, piece_length: int):
    torrent = lt.create_torrent(lt.list_files(str(path)), piece_length, lt.create_torrent.v2_only)
    lt.set_piece_hashes(torrent, str(path.parent))
    made = torrent.generate()
    root = made[b"info"][b"file tree"][path.name.encode()][b""][b"pieces root"]
    layer = made[b"piece layers"].get(root, b"")
    return path.stat().st_size, root, tuple(layer[at : at + 32] for at in range(0, len(layer), 32))


LENGTHS = [
    1,
    BLOCK - 1,
    BLOCK,
    BLOCK + 1,
    3 * BLOCK,
    4 * BLOCK,
    4 * BLOCK + 1,
    5 * BLOCK + 7,
    8 * BLOCK,
    37 * BLOCK + 5,
]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("piece_length", [BLOCK, 4 * BLOCK])
def test_libtorrent_makes_the_same_tree(tmp_path, length, piece_length):
    path = tmp_path / "blob"
    path.write_bytes(content(length))
    assert tree(content(length), piece_length) == libtorrent_tree(path, piece_length)


@settings(max_examples=60)
@given(
    length=st.integers(min_value=1, max_value=20 * BLOCK),
    cuts=st.lists(st.integers(min_value=0, max_value=20 * BLOCK), max_size=12),
    piece_length=st.sampled_from([BLOCK, 2 * BLOCK, 4 * BLOCK]),
)
def test_how_the_bytes_are_cut_does_not_matter(length, cuts, piece_length):
    data = content(length)
    builder = MerkleBuilder(piece_length)
    edges = [0, *sorted(min(cut, length) for cut in cuts), length]
    for start, end in itertools.pairwise(edges):
        builder.update(memoryview(data)[start:end])
    assert builder.finish() == tree(data, piece_length)


@given(length=st.integers(min_value=1, max_value=20 * BLOCK), piece_length=st.sampled_from([BLOCK, 4 * BLOCK]))
def test_each_piece_alone_has_the_hash_that_the_tree_has(length, piece_length):
    data = content(length)
    _, root, layer = tree(data, piece_length)
    pieces = [data[at : at + piece_length] for at in range(0, length, piece_length)]
    assert [piece_root(piece, piece_length, length) for piece in pieces] == list(layer or (root,))
    if layer:
        assert layer_root(layer, piece_length) == root


def test_an_empty_file_has_the_zero_root():
    assert tree(b"", BLOCK) == (0, bytes(32), ())


def test_a_tree_can_be_wider_than_its_hashes():
    one = hashlib.sha256(b"x").digest()
    assert tree_root([one], 2) == hashlib.sha256(one + bytes(32)).digest()


@pytest.mark.parametrize("piece_length", [0, -BLOCK, BLOCK // 2, BLOCK + 1, 3 * BLOCK])
def test_a_piece_length_that_is_no_power_of_two_blocks_is_refused(piece_length):
    with pytest.raises(ValueError, match="power of two"):
        MerkleBuilder(piece_length)
