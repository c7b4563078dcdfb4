"""A sealed value opens in its own row, unaltered, with a key of the ring; and in no other way."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.sealing import SealBroken, SealedBox
from control_plane.sealing.keyring import KeyRing

RING = KeyRing({b"k" * 8: b"1" * 32})
BOX = SealedBox(RING)


@given(plaintext=st.binary(max_size=200), identity=st.text(max_size=40))
def test_what_was_sealed_opens_in_its_place(plaintext: bytes, identity: str) -> None:
    assert BOX.open(BOX.seal(plaintext, identity), identity) == plaintext


def test_the_secret_does_not_show() -> None:
    sealed = BOX.seal(b"correct horse battery staple", "users/1")
    assert b"horse" not in sealed
    assert sealed != BOX.seal(b"correct horse battery staple", "users/1")


def test_a_sealed_value_does_not_open_in_another_row() -> None:
    sealed = BOX.seal(b"secret", "users/1")
    with pytest.raises(SealBroken):
        BOX.open(sealed, "users/2")


def test_every_flipped_bit_is_noticed() -> None:
    sealed = BOX.seal(b"secret", "users/1")
    for position in range(len(sealed) * 8):
        altered = bytearray(sealed)
        altered[position // 8] ^= 1 << position % 8
        with pytest.raises(SealBroken):
            BOX.open(bytes(altered), "users/1")


def test_every_truncation_is_noticed() -> None:
    sealed = BOX.seal(b"secret", "users/1")
    for length in range(len(sealed)):
        with pytest.raises(SealBroken):
            BOX.open(sealed[:length], "users/1")


def test_after_a_rotation_the_new_key_seals_and_the_old_one_opens(tmp_path: Path) -> None:
    before = SealedBox(KeyRing.load_or_create(tmp_path))
    old = before.seal(b"secret", "users/1")
    after = SealedBox(KeyRing.rotate(tmp_path))
    new = after.seal(b"secret", "users/1")
    assert after.open(old, "users/1") == after.open(new, "users/1") == b"secret"
    assert (after.is_current(old), after.is_current(new)) == (False, True)
    with pytest.raises(SealBroken) as refused:
        before.open(new, "users/1")
    assert "restore the sealing keys" in refused.value.action


def test_another_installations_keys_open_nothing(tmp_path: Path) -> None:
    sealed = SealedBox(KeyRing.load_or_create(tmp_path / "a")).seal(b"secret", "users/1")
    with pytest.raises(SealBroken):
        SealedBox(KeyRing.load_or_create(tmp_path / "b")).open(sealed, "users/1")
