"""The installer's script, in real shells with real clients, against the device API over real HTTP."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from proto.regional.v1 import machines_pb2 as pb

from ..conftest import FakeCentre, Rigs, sample, until
from .boots import running_site
from .installer_machine import SECONDS, Tools, ended, machine, of_busybox, of_the_system, running
from .rack import MAC, content, image_intent, target

IMAGE = sample(3 << 20, seed=10)


def tools(tmp_path: Path, shell: str) -> Tools:
    return of_the_system() if shell == "dash" else of_busybox(tmp_path / "bin")


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
        async with running(tmp_path, tools(tmp_path, shell)) as process:
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
        assert (found.serial, found.vendor) == ("SN-1", 'Vendor "quoted" \\ Inc.')
        assert (found.cpu_model, found.cpu_sockets, found.cpu_cores, found.cpu_threads) == ("Fast: CPU", 1, 2, 4)
        [seen] = found.disks
        assert (seen.name, seen.size_bytes, seen.model, seen.rotational) == ("sda", 4 << 20, "DISK", True)
        assert (seen.serial, seen.wwn) == ("DS-77", "0x5000C500A1B2C3D4")
        assert [(each.mac, each.link, each.speed_mbits) for each in found.nics] == [(MAC, True, 0)]


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
        async with running(tmp_path, tools(tmp_path, shell)) as process:
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
        async with running(tmp_path, of_the_system()) as process:
            code, said = await ended(process)
        assert (code, "no disk is as it was asked for" in said) == (1, True)
        assert set(disk.read_bytes()) == {0xFF}
