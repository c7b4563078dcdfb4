"""A disk that is really full (a small tmpfs; needs root): each thing that a regional writes is refused with the reason,
what was there stays whole, nothing half is served, and everything goes on once there is room.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from common.clock import ManualClock
from common.errors import Failure
from regional.dhcp.lease_store import LeasesNotStored, LeaseStore
from regional.dhcp.leases import Lease, State
from regional.directory import ContentDirectory, DiskFull
from regional.machines import course
from regional.machines.asking import Ask, Boot
from regional.machines.model import Sighting
from regional.machines.store import MachinesNotStored
from regional.mirrors.model import UpstreamAway
from regional.mirrors.shelf import Shelf
from regional.publication import NotPublished, publish
from regional.tree import create_tree
from regional.v2.answers import Answers, AnswersUnusable

from .conftest import FakeCentre, Rigs, sample, until
from .machines.rack import MAC, NOW, Rack, image_intent, target
from .mirrors.upstream import site, upstream

IMAGE = sample(3 << 20, seed=4)
PACKAGE = bytes(range(256)) * 12_000
POOL = "pool/main/h/hello/hello_1.0-1_all.deb"


@dataclass(frozen=True)
class Disk:
    """A file system of 8 MiB at `path`."""

    path: Path

    @property
    def _filler(self) -> Path:
        return self.path / "filler"

    def fill(self, leave: int = 0) -> None:
        """To the last byte but `leave`."""
        with self._filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        with self._filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 10))
        if leave:
            size = self._filler.stat().st_size
            with self._filler.open("r+b") as file:
                file.truncate(size - leave)

    def free(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "longshore-test", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def lease(number: int, clock: ManualClock) -> Lease:
    return Lease(number, bytes((number,)) * 6, State.LEASED, clock.monotonic() + 1000, 1000.0)


def first_refused(write: Callable[[int], None], refusal: type[Failure]) -> tuple[int, Failure]:
    """What is left of the last page takes some; numbers from 2."""
    for number in range(2, 5000):
        try:
            write(number)
        except refusal as failure:
            return number, failure
    raise AssertionError("the disk is not full")


def test_no_lease_is_promised_and_none_is_lost(disk: Disk) -> None:
    clock, path = ManualClock(), disk.path / "leases"
    store = LeaseStore(path, clock, "one")
    store.load()
    store.append([lease(1, clock)])
    disk.fill()
    refused, failure = first_refused(lambda number: store.append([lease(number, clock)]), LeasesNotStored)
    assert "No space left" in failure.detail
    assert failure.action == "make room on that disk"
    store.close()
    # It starts on the full disk too, with what it promised.
    again = LeaseStore(path, clock, "one")
    assert [each.address for each in again.load().leases] == list(range(1, refused))
    disk.free()
    again.append([lease(refused, clock)])
    again.close()
    last = LeaseStore(path, clock, "one")
    assert [each.address for each in last.load().leases] == list(range(1, refused + 1))
    last.close()


def test_an_installation_neither_moves_nor_is_forgotten(disk: Disk) -> None:
    rack = Rack(disk.path)
    rack.ledger.change([target(image_intent())], [], NOW, whole=True)
    disk.fill()

    def report(number: int) -> None:
        seen = Sighting(f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}", by="dhcp")
        rack.ledger.report(rack.ledger._writer.sighting("", seen, NOW))

    refused, failure = first_refused(report, MachinesNotStored)
    assert "disk" in failure.detail
    assert "free space" in failure.action
    with pytest.raises(MachinesNotStored):
        rack.doorway.ask(Ask(MAC, ""), NOW)
    assert rack.ledger.install("i1") is None
    assert rack.store.trouble == failure.detail
    rack.store.close()
    disk.free()
    rack._start()
    assert len(rack.reports()) == refused - 2
    answer = rack.doorway.ask(Ask(MAC, ""), NOW)
    assert isinstance(answer, Boot)
    rack.ledger.act(answer.token, NOW, lambda a, b: course.asks_next(a, b, "1", NOW)[0])
    assert rack.phases() == ["booting", "installing"]
    assert rack.store.trouble == ""
    rack.store.close()


def test_a_start_on_a_full_disk_takes_nothing_for_damaged(disk: Disk) -> None:
    rack = Rack(disk.path)
    rack.ledger.change([target(image_intent())], [], NOW, whole=True)
    rack.store.close()
    disk.fill()
    with pytest.raises(MachinesNotStored) as failure:
        rack._start()
    assert "free space" in failure.value.action
    assert not list(disk.path.glob("*.damaged*"))
    disk.free()
    rack._start()
    assert isinstance(rack.doorway.ask(Ask(MAC, ""), NOW), Boot)
    rack.store.close()


def test_what_the_centre_said_and_what_mirrors_hold_outlive_a_start_on_a_full_disk(disk: Disk) -> None:
    answers = Answers(disk.path / "answers.sqlite", ManualClock(), timedelta(hours=1))
    answers.open()
    answers.close()
    shelf = Shelf(disk.path / "mirrors", 1 << 20)
    shelf.open()
    shelf.close()
    before = sorted(path.name for path in disk.path.rglob("*") if path.is_file())
    disk.fill()
    with pytest.raises(AnswersUnusable, match=r"answers\.sqlite"):
        answers.open()
    with pytest.raises(UpstreamAway, match="mirrors"):
        shelf.open()
    disk.free()
    assert sorted(path.name for path in disk.path.rglob("*.sqlite")) == ["answers.sqlite", "index.sqlite"]
    assert not list(disk.path.glob("*.damaged*"))
    answers.open()
    answers.close()
    shelf.open()
    shelf.close()
    assert sorted(path.name for path in disk.path.rglob("*") if path.is_file()) == before


def test_a_boot_file_is_published_whole_or_not_at_all(disk: Disk, tmp_path: Path) -> None:
    create_tree(disk.path)
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"old")
    publish(kernel, disk.path, "static/kernels/vmlinuz")
    kernel.write_bytes(b"new" * 1_000_000)
    disk.fill(leave=1 << 20)
    with pytest.raises(NotPublished, match="No space left"):
        publish(kernel, disk.path, "static/kernels/vmlinuz")
    assert (disk.path / "static/kernels/vmlinuz").read_bytes() == b"old"
    assert [child.name for child in (disk.path / "static/kernels").iterdir()] == ["vmlinuz"]
    disk.free()
    publish(kernel, disk.path, "static/kernels/vmlinuz")
    assert (disk.path / "static/kernels/vmlinuz").read_bytes() == kernel.read_bytes()


async def test_a_package_of_a_mirror_is_not_served_in_part(disk: Disk) -> None:
    async with upstream() as origin, site(disk.path, origin.url) as here:
        origin.files = {POOL: PACKAGE}
        disk.fill(leave=1 << 20)
        with contextlib.suppress(aiohttp.ClientPayloadError):  # cut off, or refused before it began
            status, _, body = await here.read(POOL)
            assert status == 503
            assert b"mirror_not_stored" in body
        await until(lambda: not list((disk.path / "mirrors/coming").iterdir()))
        disk.free()
        assert (await here.read(POOL))[2] == PACKAGE


async def test_an_image_takes_its_room_before_a_byte_crosses(disk: Disk, rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(IMAGE, "acme")
    disk.fill(leave=1 << 20)
    async with rigs(directory=ContentDirectory(disk.path / "cache")) as rig:
        with pytest.raises(DiskFull):
            await rig.hold(IMAGE)
        assert centre.gets == []
        assert not rig.edge.holds(IMAGE.digest)
        disk.free()
        rig.edge.retry_now()
        assert await rig.read(IMAGE) == IMAGE.data
