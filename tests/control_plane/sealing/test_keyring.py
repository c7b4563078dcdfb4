"""The file of master keys: private, durable, never shortened, and the same for all who start at once."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from common.errors import Conflict
from control_plane.sealing.keyring import KeyFileDamaged, KeyFileExposed, KeyRing


def test_the_first_start_makes_a_private_file_and_the_next_reads_it(tmp_path: Path) -> None:
    first = KeyRing.load_or_create(tmp_path / "keys")
    path = tmp_path / "keys" / "sealing.keys"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert KeyRing.load_or_create(tmp_path / "keys").newest == first.newest
    assert [entry.name for entry in path.parent.iterdir()] == ["sealing.keys"]


def test_two_installations_have_different_keys(tmp_path: Path) -> None:
    assert KeyRing.load_or_create(tmp_path / "a").newest != KeyRing.load_or_create(tmp_path / "b").newest


def test_all_who_start_at_once_use_the_same_key(tmp_path: Path) -> None:
    rings: list[KeyRing] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        rings.append(KeyRing.load_or_create(tmp_path))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({ring.newest for ring in rings}) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o666])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    KeyRing.load_or_create(tmp_path)
    (tmp_path / "sealing.keys").chmod(mode)
    with pytest.raises(KeyFileExposed) as refused:
        KeyRing.load_or_create(tmp_path)
    assert "chmod 600" in refused.value.action


def test_rotation_adds_and_keeps(tmp_path: Path) -> None:
    first = KeyRing.load_or_create(tmp_path)
    second = KeyRing.rotate(tmp_path)
    third = KeyRing.rotate(tmp_path)
    assert len(third) == 3
    assert third.find(first.newest[0]) == first.newest[1]
    assert third.find(second.newest[0]) == second.newest[1]
    assert KeyRing.load_or_create(tmp_path).newest == third.newest
    assert (tmp_path / "sealing.keys").stat().st_mode & 0o777 == 0o600


def test_two_rotations_at_once_do_not_lose_a_key(tmp_path: Path) -> None:
    KeyRing.load_or_create(tmp_path)
    with (tmp_path / ".sealing.keys.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Conflict):
            KeyRing.rotate(tmp_path)
    assert len(KeyRing.load_or_create(tmp_path)) == 1


@pytest.mark.parametrize("damage", ["", "nonsense\n", "00 11\n", "0011223344556677 " + "00" * 32 + "\n", "\xff\n"])
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, damage: str) -> None:
    KeyRing.load_or_create(tmp_path)
    path = tmp_path / "sealing.keys"
    path.write_text(damage, encoding="latin-1")
    for attempt in (KeyRing.load_or_create, KeyRing.rotate):
        with pytest.raises(KeyFileDamaged):
            attempt(tmp_path)
    assert path.read_text(encoding="latin-1") == damage


def test_a_link_to_somewhere_else_is_not_followed(tmp_path: Path) -> None:
    KeyRing.load_or_create(tmp_path / "elsewhere")
    (tmp_path / "sealing.keys").symlink_to(tmp_path / "elsewhere" / "sealing.keys")
    with pytest.raises(KeyFileDamaged):
        KeyRing.load_or_create(tmp_path)


def test_rotation_without_a_file_makes_none(tmp_path: Path) -> None:
    with pytest.raises(KeyFileDamaged):
        KeyRing.rotate(tmp_path)
    assert not (tmp_path / "sealing.keys").exists()
