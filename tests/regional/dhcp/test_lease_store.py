"""Leases on disk: kill -9 at any byte, damage, a full disk, clocks that are set."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from common.clock import ManualClock
from regional.dhcp.lease_store import LeasesNotStored, LeaseStore
from regional.dhcp.leases import Lease, State


def lease(number: int, clock: ManualClock, seconds: float = 100, state: State = State.LEASED) -> Lease:
    return Lease(number, bytes((number,)) * 6, state, clock.monotonic() + seconds, seconds, b"port")


def reopened(path: Path, clock: ManualClock, boot: str = "one") -> list[Lease]:
    store = LeaseStore(path, clock, boot)
    try:
        return list(store.load().leases)
    finally:
        store.close()


@pytest.fixture
def clock() -> ManualClock:
    found = ManualClock()
    found.tick(1000)
    return found


def opened(path: Path, clock: ManualClock) -> LeaseStore:
    store = LeaseStore(path, clock, "one")
    assert store.load().leases == []
    return store


def test_what_was_appended_is_there_again_and_the_last_word_counts(tmp_path: Path, clock: ManualClock) -> None:
    store = opened(tmp_path / "dhcp" / "leases", clock)
    first, second = lease(1, clock), lease(2, clock)
    store.append([first, second])
    renewed = lease(1, clock, 500)
    store.append([renewed])
    assert sorted(reopened(tmp_path / "dhcp" / "leases", clock), key=lambda each: each.address) == [renewed, second]
    store.close()


def test_a_write_that_was_cut_off_costs_that_line_alone(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "leases"
    store = opened(path, clock)
    for number in (1, 2, 3):
        store.append([lease(number, clock)])
    store.close()
    whole = path.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(0, len(whole), 5):
        path.write_bytes(whole[:size])
        assert len(reopened(path, clock)) >= sum(end <= size for end in ends)
    damaged = bytearray(whole)
    damaged[ends[0] + 20] ^= 1
    path.write_bytes(damaged)
    assert [each.address for each in reopened(path, clock)] == [1, 3]
    path.write_bytes(os.urandom(500) + b"\n" + whole)
    assert [each.address for each in reopened(path, clock)] == [1, 2, 3]


def test_a_clock_that_was_set_ends_no_lease(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "leases"
    store = opened(path, clock)
    store.append([lease(1, clock, 100)])
    store.close()
    later = ManualClock(clock.now().replace(year=2040))
    later._monotonic = clock.monotonic() + 30
    (same_boot,) = reopened(path, later)
    assert same_boot.expires - later.monotonic() == pytest.approx(70)
    earlier = ManualClock(clock.now().replace(year=2020))
    (stepped_back,) = reopened(path, earlier, "two")
    assert stepped_back.expires - earlier.monotonic() == pytest.approx(100)
    kept = ManualClock(clock.now())
    kept.tick(40)
    (in_time,) = reopened(path, kept, "two")
    assert in_time.expires - kept.monotonic() == pytest.approx(60)
    (after_boot,) = reopened(path, later, "two")
    assert after_boot.expires <= later.monotonic()


def test_a_full_disk_refuses_and_the_next_write_makes_the_file_whole(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "leases"
    store = opened(path, clock)
    store.append([lease(1, clock)])

    def torn(descriptor: int, data: bytes) -> int:
        real_write(descriptor, bytes(data)[:10])
        raise OSError(28, "No space left on device")

    real_write = os.write
    with monkeypatch.context() as full:
        full.setattr("regional.dhcp.lease_store.os.write", torn)
        with pytest.raises(LeasesNotStored, match="No space"):
            store.append([lease(2, clock)])
        full.setattr("regional.dhcp.lease_store.write_file", lambda *_: (_ for _ in ()).throw(OSError(28, "No space")))
        with pytest.raises(LeasesNotStored, match="No space"):
            store.append([lease(3, clock)])
        assert [each.address for each in reopened(path, clock)] == [1]  # a start on the full disk
    assert [each.address for each in reopened(path, clock)] == [1]
    store.append([lease(4, clock)])
    store.close()
    assert [each.address for each in reopened(path, clock)] == [1, 4]


def test_history_is_dropped_and_leases_that_ended_long_ago_too(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regional.dhcp.lease_store._LEAST_HISTORY", 10)
    path = tmp_path / "leases"
    store = opened(path, clock)
    for _ in range(50):
        store.append([lease(1, clock), lease(2, clock)])
    assert path.read_bytes().count(b"\n") < 20
    store.close()
    clock.tick(200)
    assert len(reopened(path, clock)) == 2
    clock.tick(86400)
    reopened(path, clock)
    assert path.read_bytes() == b""


def test_a_directory_that_cannot_be_read_stops_the_start(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LeasesNotStored, match="cannot be read"):
        LeaseStore(tmp_path / "file" / "leases", clock, "one").load()
