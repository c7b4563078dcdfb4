"""A hash that was written down and gone on with is the hash."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as some

from common.digest import Digest
from control_plane.blobs.hash_state import PlainHasher, ResumableHasher, new_hasher, resumed

ALGORITHMS = ("sha256", "sha512")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_this_platform_can_write_its_hashes_down(algorithm: str) -> None:
    assert isinstance(new_hasher(algorithm), ResumableHasher)


@given(pieces=some.lists(some.binary(max_size=300), max_size=12), algorithm=some.sampled_from(ALGORITHMS))
def test_any_split_over_any_number_of_saved_states_equals_hashlib(pieces: list[bytes], algorithm: str) -> None:
    hasher = new_hasher(algorithm)
    for number, piece in enumerate(pieces):
        hasher.update(memoryview(piece) if number % 2 else piece)
        state = hasher.state()
        assert state is not None
        again = resumed(state)
        assert again is not None
        hasher = again
        assert hasher.algorithm == algorithm
    whole = b"".join(pieces)
    assert hasher.size == len(whole)
    assert hasher.digest() == hasher.digest() == Digest.of(whole, algorithm)


def test_lengths_beyond_32_bits_of_bits_go_on_too() -> None:
    piece, hasher, plain = bytes(1 << 20), new_hasher("sha256"), hashlib.sha256()
    for _ in range(513):  # 2**32 bits and a little
        hasher.update(piece)
        plain.update(piece)
    again = resumed(hasher.state() or b"")
    assert again is not None
    again.update(b"end")
    plain.update(b"end")
    assert again.digest().hex == plain.hexdigest()


@given(data=some.binary(max_size=200), algorithm=some.sampled_from(ALGORITHMS), damage=some.data())
def test_a_damaged_state_is_none(data: bytes, algorithm: str, damage: some.DataObject) -> None:
    hasher = new_hasher(algorithm)
    hasher.update(data)
    state = bytearray(hasher.state() or b"")
    if damage.draw(some.booleans()):
        del state[damage.draw(some.integers(0, len(state) - 1)) :]
    else:
        state[damage.draw(some.integers(0, len(state) - 1))] ^= damage.draw(some.integers(1, 255))
    assert resumed(bytes(state)) is None


@given(some.binary(max_size=400))
def test_anything_else_is_none(noise: bytes) -> None:
    assert resumed(noise) is None


def test_a_cut_view_is_hashed_as_what_it_shows() -> None:
    hasher = new_hasher("sha256")
    hasher.update(memoryview(b"xabcx")[1:4])
    assert hasher.digest() == Digest.of(b"abc")


def test_without_libcrypto_there_is_no_state_and_the_digest_is_right() -> None:
    hasher = PlainHasher("sha256")
    hasher.update(b"abc")
    assert hasher.state() is None
    assert hasher.digest() == Digest.of(b"abc")
