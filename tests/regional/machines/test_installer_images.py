"""Images that the installer writes, with the real programs of its environment, and what may go wrong on the way.

Whatever ends an image early leaves a disk whose first mebibyte is empty: nothing boots from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import lzma
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from common.digest import Digest
from deploy.installer.building import Installer
from proto.regional.v1 import machines_pb2 as pb

from ..conftest import FakeCentre, Rigs, Sample, sample
from .boots import Site, installs, running_site
from .installer_machine import Tools, ended, machine, of_the_environment, running
from .meddler import Meddler, meddling
from .rack import content, target

pytestmark = [pytest.mark.engine("installer"), pytest.mark.xdist_group("installer_images")]

MIB = 1 << 20
PLAIN = sample(5 * MIB + 4096, seed=11)
DOCUMENTS = {"user-data": b"#cloud-config\nhostname: web-1\n", "meta-data": b"instance-id: i1\n"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, installer: Installer) -> Tools:
    return of_the_environment(tmp_path_factory.mktemp("environment"), installer)


def said_by(tools: Tools, *words: str, given: str = "") -> str:
    done = subprocess.run(
        [f"{tools.path}/{words[0]}", *words[1:]], env=tools.environment(), input=given, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def of(data: bytes) -> Sample:
    return Sample(data, Digest.of(data))


class Bench:
    """One image to one disk, through a regional and a proxy in front of it."""

    def __init__(self, site: Site, tools: Tools, tmp_path: Path, meddler: Meddler) -> None:
        self.site, self.tools, self.meddler = site, tools, meddler
        self._tmp_path = tmp_path
        self.disk = tmp_path / "machine/dev/sda"
        self.process: asyncio.subprocess.Process | None = None

    async def install(self, image: Sample, disk_bytes: int, **options: Any) -> tuple[int, str]:
        """Exit code and what it said."""
        write = pb.ImageInstall(content=content(image.digest, len(image.data)), **{"format": "raw", **options})
        operations = [
            pb.Operation(id="write", image_install=write),
            pb.Operation(id="restart", reboot=pb.Reboot()),
            pb.Operation(id="done", complete=pb.Complete()),
        ]
        documents = [pb.Document(name=name, content=text, secret=True) for name, text in DOCUMENTS.items()]
        intent = pb.InstallIntent(id="i1", tenant_id="acme", operations=operations, documents=documents)
        await self.site.approve(target(intent, serial="SN-1"))
        machine(self._tmp_path / "machine", self.site, await self.site.token(serial="SN-1"), disk_bytes)
        async with running(self._tmp_path, self.tools) as self.process:
            return await ended(self.process)

    @property
    def why(self) -> str:
        install = self.site.machines.ledger.install("i1")
        assert install is not None
        return install.detail

    def assert_nothing_boots(self) -> None:
        assert self.site.phases()[-1] == "failed"
        assert set(self.disk.read_bytes()[:MIB]) == {0}


@contextlib.asynccontextmanager
async def bench(tmp_path: Path, rigs: Rigs, centre: FakeCentre, tools: Tools, *images: Sample):  # type: ignore[no-untyped-def]
    async with rigs() as rig, running_site(tmp_path, rig.cache) as site, meddling(site) as meddler:
        for image in images:
            centre.publish(image, "acme")
            await rig.hold(image)
        yield Bench(site, tools, tmp_path, meddler)


def zstandard(tools: Tools, data: bytes) -> bytes:
    done = subprocess.run([f"{tools.path}/zstd", "-c"], env=tools.environment(), input=data, capture_output=True)
    return done.stdout


@pytest.mark.parametrize("packing", ["plain", "gzip", "xz", "zstd"])
async def test_an_image_reaches_the_disk_however_it_is_packed(
    tmp_path: Path, rigs: Rigs, centre: FakeCentre, environment: Tools, packing: str
) -> None:
    packed = {
        "plain": lambda: PLAIN.data,
        "gzip": lambda: gzip.compress(PLAIN.data),
        "xz": lambda: lzma.compress(PLAIN.data, preset=0),
        "zstd": lambda: zstandard(environment, PLAIN.data),
    }[packing]()
    image = of(packed)
    async with bench(tmp_path, rigs, centre, environment, image) as made:
        code, said = await made.install(image, 8 * MIB)
        assert (code, "restarted" in said) == (0, True), said + made.why
        assert made.disk.read_bytes()[: len(PLAIN.data)] == PLAIN.data
        assert made.site.phases() == ["booting", "installing", "completed"]
        percents = [each.operation.percent for each in made.site.reports() if each.operation.percent]
        assert percents == sorted(percents)


@pytest.mark.parametrize("disk_mib", [48, 34], ids=["behind-it", "in-memory"])
async def test_a_qcow2_image_is_unpacked_from_the_end_of_the_disk_or_from_memory(
    tmp_path: Path, rigs: Rigs, centre: FakeCentre, environment: Tools, disk_mib: int
) -> None:
    raw, packed = tmp_path / "raw", tmp_path / "packed"
    raw.write_bytes(PLAIN.data + bytes(27 * MIB - 4096))
    said_by(environment, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(packed))
    image = of(packed.read_bytes())
    async with bench(tmp_path, rigs, centre, environment, image) as made:
        code, said = await made.install(image, disk_mib * MIB, format="qcow2")
        assert code == 0, said + made.why
        assert made.disk.read_bytes()[: 32 * MIB] == raw.read_bytes()
        assert made.site.phases()[-1] == "completed"


async def test_a_qcow2_image_that_becomes_larger_than_the_disk_is_refused(
    tmp_path: Path, rigs: Rigs, centre: FakeCentre, environment: Tools
) -> None:
    packed = tmp_path / "packed"
    said_by(environment, "qemu-img", "create", "-f", "qcow2", str(packed), "64M")
    image = of(packed.read_bytes())
    async with bench(tmp_path, rigs, centre, environment, image) as made:
        code, _ = await made.install(image, 16 * MIB, format="qcow2")
        assert code == 1
        assert "unpacks to 67108864 bytes and the disk has 16777216" in made.why
        assert set(made.disk.read_bytes()) == {0xFF}


@pytest.mark.parametrize("label", ["gpt", "dos"])
async def test_the_last_partition_grows_and_cloud_init_finds_its_seed(
    tmp_path: Path, rigs: Rigs, centre: FakeCentre, environment: Tools, label: str
) -> None:
    whole = tmp_path / "whole"
    whole.write_bytes(b"\xeb\x63boot code" + bytes(16 * MIB - 11))
    said_by(environment, "sfdisk", str(whole), given=f"label: {label}\nsize=2048\nsize=4096\n")
    data = bytearray(whole.read_bytes())
    # Numbers need not follow places: cloud images have the system first and its loaders behind it in number.
    data[3 * MIB : 3 * MIB + 6] = b"SYSTEM"
    image = of(bytes(data))
    async with bench(tmp_path, rigs, centre, environment, image) as made:
        code, said = await made.install(image, 40 * MIB, seed_documents=list(DOCUMENTS), grow=True)
        assert code == 0, said + made.why
        assert made.disk.read_bytes()[:11] == b"\xeb\x63boot code"
        assert made.disk.read_bytes()[3 * MIB : 3 * MIB + 6] == b"SYSTEM"
        rows = [line.split(":")[1].split(",") for line in dump(environment, made.disk) if "start=" in line]
        places = [(int(start.split("=")[1]), int(size.split("=")[1])) for start, size, *_ in rows]
        (_, first), (begin, size), (seed, seed_size) = sorted(places)
        assert (first, seed_size) == (2048, 8192)
        assert begin + size <= seed < begin + size + 2048
        assert "No errors" in said_by(environment, "sfdisk", "--verify", str(made.disk))
        for name, text in DOCUMENTS.items():
            at = f"{made.disk}@@{seed * 512}"
            assert said_by(environment, "mcopy", "-i", at, f"::{name}", "-").encode() == text
        assert "CIDATA" in said_by(environment, "mlabel", "-i", f"{made.disk}@@{seed * 512}", "-s", "::")


def dump(tools: Tools, disk: Path) -> list[str]:
    return said_by(tools, "sfdisk", "--dump", str(disk)).splitlines()


async def test_an_image_without_partitions_has_no_place_for_a_seed(
    tmp_path: Path, rigs: Rigs, centre: FakeCentre, environment: Tools
) -> None:
    async with bench(tmp_path, rigs, centre, environment, PLAIN) as made:
        code, _ = await made.install(PLAIN, 16 * MIB, seed_documents=list(DOCUMENTS))
        assert (code, "no partition table" in made.why) == (1, True)
        made.assert_nothing_boots()


def damaged(number: int, piece: bytes) -> bytes:
    return piece if number > 1 else piece[: 2 * MIB] + bytes([piece[2 * MIB] ^ 1]) + piece[2 * MIB + 1 :]


@pytest.mark.parametrize("packing", ["plain", "gzip"])
async def test_a_damaged_image_ends_the_installation(
    tmp_path: Path, rigs: Rigs, centre: FakeCentre, environment: Tools, packing: str
) -> None:
    image = PLAIN if packing == "plain" else of(gzip.compress(PLAIN.data, compresslevel=0))
    async with bench(tmp_path, rigs, centre, environment, image) as made:
        made.meddler.change = damaged
        code, _ = await made.install(image, 8 * MIB)
        assert code == 1
        assert "damaged" in made.why or "does not unpack" in made.why
        made.assert_nothing_boots()


async def test_an_image_that_never_comes_to_its_end_fails_with_its_reason(
    tmp_path: Path, rigs: Rigs, centre: FakeCentre, environment: Tools
) -> None:
    async with bench(tmp_path, rigs, centre, environment, PLAIN) as made:
        made.meddler.change = lambda number, piece: piece[: 2 * MIB] if number == 1 else b""
        code, _ = await made.install(PLAIN, 8 * MIB)
        assert (code, "could not be fetched to its end" in made.why) == (1, True), made.why
        made.assert_nothing_boots()


async def test_a_stream_that_breaks_off_goes_on_where_it_was(
    tmp_path: Path, rigs: Rigs, centre: FakeCentre, environment: Tools
) -> None:
    asked: list[int] = []

    def cut(number: int, piece: bytes) -> bytes:
        asked.append(len(piece))
        return piece[: len(piece) // 2] if number < 4 else piece

    async with bench(tmp_path, rigs, centre, environment, PLAIN) as made:
        made.meddler.change = cut
        code, said = await made.install(PLAIN, 8 * MIB)
        assert code == 0, said + made.why
        assert made.disk.read_bytes()[: len(PLAIN.data)] == PLAIN.data
        left = len(PLAIN.data) - 2 * MIB
        assert asked == [4 * MIB, left, left // 2, left // 4]


async def test_words_that_a_starting_regional_does_not_hear_are_said_again(
    tmp_path: Path, rigs: Rigs, centre: FakeCentre, environment: Tools
) -> None:
    async with bench(tmp_path, rigs, centre, environment, PLAIN) as made:

        async def restart(number: int) -> None:
            made.meddler.busy = 4

        made.meddler.busy = 3
        made.meddler.before = restart
        code, said = await made.install(PLAIN, 8 * MIB)
        assert code == 0, said + made.why
        assert made.site.phases() == ["booting", "installing", "completed"]


async def test_a_machine_that_loses_its_power_midway_boots_nothing_and_is_not_installed_again(
    tmp_path: Path, rigs: Rigs, centre: FakeCentre, environment: Tools
) -> None:
    async with bench(tmp_path, rigs, centre, environment, PLAIN) as made:

        async def lose_power(number: int) -> None:
            if number == 2 and made.process is not None:
                os.killpg(made.process.pid, signal.SIGKILL)

        made.meddler.before = lose_power
        code, _ = await made.install(PLAIN, 8 * MIB)
        assert code == -signal.SIGKILL
        assert set(made.disk.read_bytes()[:MIB]) == {0}
        made.site.clock.tick(60)
        assert not installs(await made.site.script(serial="SN-1"))
        made.site.clock.tick(3600)
        made.site.machines.ledger.sweep(made.site.clock.now().timestamp())
        assert not installs(await made.site.script(serial="SN-1"))
        made.assert_nothing_boots()


async def test_a_packed_image_that_unpacks_beyond_the_disk_fails(
    tmp_path: Path, rigs: Rigs, centre: FakeCentre, environment: Tools
) -> None:
    image = of(gzip.compress(bytes(9 * MIB)))
    async with bench(tmp_path, rigs, centre, environment, image) as made:
        code, _ = await made.install(image, 4 * MIB)
        assert (code, f"unpacks to {9 * MIB} bytes and the disk has {4 * MIB}" in made.why) == (1, True), made.why
        made.assert_nothing_boots()


async def test_an_image_that_is_no_disk_is_refused_before_the_disk_is_touched(
    tmp_path: Path, rigs: Rigs, centre: FakeCentre, environment: Tools
) -> None:
    async with bench(tmp_path, rigs, centre, environment, PLAIN) as made:
        code, _ = await made.install(PLAIN, 8 * MIB, format="qcow2")
        assert (code, "begins like raw" in made.why) == (1, True)
        assert set(made.disk.read_bytes()) == {0xFF}


async def test_a_withdrawn_approval_stops_the_stream_and_the_disk_boots_nothing(
    tmp_path: Path, rigs: Rigs, centre: FakeCentre, environment: Tools
) -> None:
    async with bench(tmp_path, rigs, centre, environment, PLAIN) as made:

        async def withdraw(_number: int) -> None:
            await made.site.approve(target(serial="SN-1"))

        made.meddler.before = withdraw
        code, _ = await made.install(PLAIN, 8 * MIB)
        assert (code, made.site.phases()[-1]) == (1, "stopped")
        assert set(made.disk.read_bytes()[:MIB]) == {0}


async def test_a_machine_whose_token_is_an_older_boots_writes_nothing(
    tmp_path: Path, rigs: Rigs, centre: FakeCentre, environment: Tools
) -> None:
    async with bench(tmp_path, rigs, centre, environment, PLAIN) as made:
        wipe = pb.Operation(id="wipe", disk_wipe=pb.DiskWipe(whole=True))
        await made.site.approve(target(pb.InstallIntent(id="i1", operations=[wipe]), serial="SN-1"))
        old = await made.site.token(serial="SN-1")
        await made.site.clock.advance(60)
        await made.site.token(serial="SN-1")
        disk = machine(tmp_path / "machine", made.site, old)
        async with running(tmp_path, environment) as process:
            code, said = await ended(process)
        assert (code, "is refused: 40" in said) == (1, True), said
        assert set(disk.read_bytes()) == {0xFF}
