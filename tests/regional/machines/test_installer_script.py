"""The installer's script, in real shells with real clients, against the device API over real HTTP."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proto.regional.v1 import machines_pb2 as pb

from ...pace import BUSY_SECONDS
from ..conftest import FakeCentre, Rigs, sample, until
from .boots import Site, running_site
from .rack import MAC, content, image_intent, target

SCRIPT = Path(__file__).parents[3] / "deploy/installer/environment/longshore/install"
IMAGE = sample(3 << 20, seed=10)
SECONDS = 60 + BUSY_SECONDS


def tools(directory: Path, shell: str) -> list[str]:
    """How to run it: busybox finds its own tools first, dash those of the system."""
    if shell == "dash":
        return ["dash"]
    directory.mkdir()
    names = "sh wget sed tr head tail od sort dd sha256sum wc cut cat grep mkdir sleep rm sync uname timeout awk cp"
    names += " readlink mkfifo tee zcat xzcat truncate"
    for name in names.split():
        (directory / name).symlink_to(shutil.which("busybox") or "busybox")
    return [str(directory / "sh")]


def machine(root: Path, site: Site, token: str, disk_bytes: int = 4 << 20) -> Path:
    """What the kernel shows of a machine with one disk; the disk."""
    for name in ("dmi/id", "net/eth0/device"):
        (root / "sys/class" / name).mkdir(parents=True)
    for name in ("proc", "dev", "sys/block/sda/device", "sys/block/loop0"):
        (root / name).mkdir(parents=True)
    facts = {
        "proc/cmdline": f"quiet longshore.url={site.base} longshore.token={token} longshore.mac={MAC}\n",
        "proc/cpuinfo": "processor : 0\nprocessor : 1\n",
        "proc/meminfo": "MemTotal:  2048 kB\n",
        "sys/class/dmi/id/product_serial": "SN-1\n",
        "sys/class/dmi/id/sys_vendor": 'Vendor "quoted" \\ Inc.\n',
        "sys/class/net/eth0/address": f"{MAC}\n",
        "sys/class/net/eth0/carrier": "1\n",
        "sys/block/sda/size": f"{disk_bytes // 512}\n",
        "sys/block/sda/device/model": "DISK\n",
    }
    for name, text in facts.items():
        (root / name).write_text(text)
    disk = root / "dev/sda"
    disk.write_bytes(b"\xff" * disk_bytes)
    return disk


@asynccontextmanager
async def running(tmp_path: Path, root: Path, shell: str) -> AsyncIterator[asyncio.subprocess.Process]:
    bin_directory = tmp_path / "bin"
    command = tools(bin_directory, shell)
    path = str(bin_directory) if shell == "busybox" else os.defpath
    environment = {
        "PATH": path, "LONGSHORE_ROOT": str(root), "LONGSHORE_WORK": str(tmp_path / "work"),
        "LONGSHORE_REBOOT": "echo restarted", "LONGSHORE_WAIT": "0.05",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, str(SCRIPT), env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    return process.returncode or 0, (out + err).decode()


SHELLS = [
    pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name}"))
    for name in ("busybox", "dash")
]


@pytest.mark.parametrize("shell", SHELLS)
async def test_a_machine_is_installed_by_the_script(tmp_path: Path, rigs: Rigs, centre: FakeCentre, shell: str) -> None:
    async with rigs() as rig, running_site(tmp_path, rig.cache, boot_strangers="discover") as site:
        centre.publish(IMAGE, "acme")
        await rig.hold(IMAGE)
        disk = machine(tmp_path / "machine", site, await site.token(serial="SN-1"))
        async with running(tmp_path, tmp_path / "machine", shell) as process:
            await until(lambda: any(each.HasField("inventory") for each in site.reports()), SECONDS)
            intent = image_intent()
            intent.operations[1].image_install.content.CopyFrom(content(IMAGE.digest, len(IMAGE.data)))
            script = pb.Script(name="raid", content=b'echo it\\\'s "done"\n')
            intent.operations.insert(0, pb.Operation(id="raid", hardware_config=script))
            await site.approve(target(intent, serial="SN-1"))
            code, said = await ended(process)
        assert (code, "restarted" in said) == (0, True), said
        data = disk.read_bytes()
        assert data[: len(IMAGE.data)] == IMAGE.data
        assert set(data[len(IMAGE.data) :]) == {0}
        assert site.phases() == ["booting", "installing", "completed"]
        found = next(each.inventory for each in site.reports() if each.HasField("inventory"))
        assert (found.serial, found.vendor, found.cpu_threads) == ("SN-1", 'Vendor "quoted" \\ Inc.', 2)
        assert [(each.name, each.size_bytes) for each in found.disks] == [("sda", 4 << 20)]
        assert [(each.mac, each.link) for each in found.nics] == [(MAC, True)]


@pytest.mark.parametrize("shell", SHELLS)
async def test_a_script_that_fails_ends_the_installation_and_the_disk_is_untouched(tmp_path: Path, shell: str) -> None:
    async with running_site(tmp_path) as site:
        failing = pb.Script(name="raid", content=b"echo no controller; exit 3\n")
        operations = [
            pb.Operation(id="raid", hardware_config=failing),
            pb.Operation(id="wipe", disk_wipe=pb.DiskWipe(whole=True)),
        ]
        await site.approve(target(pb.InstallIntent(id="i1", operations=operations), serial="SN-1"))
        disk = machine(tmp_path / "machine", site, await site.token(serial="SN-1"))
        async with running(tmp_path, tmp_path / "machine", shell) as process:
            code, _ = await ended(process)
        assert code == 1
        assert set(disk.read_bytes()) == {0xFF}
        assert site.phases()[-1] == "failed"
        install = site.machines.ledger.install("i1")
        assert install is not None
        assert "no controller" in install.detail


async def test_a_disk_that_is_too_small_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        wipe = pb.DiskWipe(disk=pb.DiskChoice(least_bytes=1 << 40))
        operations = [pb.Operation(id="wipe", disk_wipe=wipe)]
        await site.approve(target(pb.InstallIntent(id="i1", operations=operations)))
        disk = machine(tmp_path / "machine", site, await site.token())
        async with running(tmp_path, tmp_path / "machine", "dash") as process:
            code, said = await ended(process)
        assert (code, "no disk is as it was asked for" in said) == (1, True)
        assert set(disk.read_bytes()) == {0xFF}
