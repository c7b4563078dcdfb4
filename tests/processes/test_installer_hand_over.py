"""The installer environment hands over to another system's kernel by kexec, in an emulated machine.

The machine begins with the kernel (its firmware is the subject of test_installations.py) and reaches the regional
through QEMU's own network, so it needs no rights. 25 s of one processor.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from deploy.installer.building import INITRD, KERNEL, Installer
from proto.regional.v1 import machines_pb2 as pb
from tests.engines.boot_kernel import KERNEL as OTHER_KERNEL
from tests.engines.boot_kernel import MARK, initial_file_system
from tests.engines.processes import Process, find_program
from tests.pace import BUSY_SECONDS
from tests.regional.conftest import until
from tests.regional.machines.boots import running_site
from tests.regional.machines.rack import MAC, target

pytestmark = [pytest.mark.processes, pytest.mark.engine("qemu"), pytest.mark.timeout(400)]
SECONDS = 250 + BUSY_SECONDS


def powered(installer: Installer, arguments: str, tmp_path: Path) -> Process:
    words = [
        find_program("qemu-system-x86_64", "netboot"), "-accel", "tcg", "-m", "384", "-smp", "1", "-display", "none",
        "-monitor", "none", "-serial", f"file:{tmp_path / 'console'}", "-no-reboot", "-smbios", "type=1,serial=SN-1",
        "-netdev", "user,id=n0", "-device", f"virtio-net-pci,netdev=n0,mac={MAC}", "-object",
        "rng-random,id=r0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=r0",
        "-kernel", str(installer.kernel), "-initrd", str(installer.initrd), "-append", arguments,
    ]  # fmt: skip
    return Process(words, tmp_path / "qemu.log")


async def test_the_distributions_kernel_runs_after_the_scripts_of_the_hardware(
    tmp_path: Path, installer: Installer
) -> None:
    if not OTHER_KERNEL.exists():
        pytest.skip("no kernel to hand over to; run `python -m tests.engines.install netboot` as root")
    async with running_site(tmp_path) as site:
        site.machines.serve_at(site.base.replace("127.0.0.1", "10.0.2.2"))
        for name, content in (("kernels/other", OTHER_KERNEL.read_bytes()), ("initramfs/other", initial_file_system())):
            (site.static / name).write_bytes(content)
        for name, path in ((KERNEL, installer.kernel), (INITRD, installer.initrd)):
            shutil.copyfile(path, site.static / name)
        other = pb.BootFiles(
            kernel=pb.BootFile(path="kernels/other"),
            initrds=[pb.BootFile(path="initramfs/other")],
            arguments="console=ttyS0 quiet guest.handed=over",
        )
        script = b"test -e /dev/mem && sfdisk --version && echo the controller is as it should be"
        operations = [
            pb.Operation(id="raid", hardware_config=pb.Script(name="raid", content=script)),
            pb.Operation(id="install", installer_boot=pb.InstallerBoot(boot=other)),
            pb.Operation(id="done", complete=pb.Complete()),
        ]
        await site.approve(target(pb.InstallIntent(id="i1", operations=operations), serial="SN-1"))
        token = await site.token(serial="SN-1")
        links = site.machines.device.links
        assert links is not None
        words = f"console=ttyS0 quiet longshore.url={links.base} longshore.token={token} longshore.mac={MAC}"
        console = tmp_path / "console"
        machine = await asyncio.to_thread(powered, installer, words, tmp_path)
        try:
            await until(lambda: f"{MARK} done" in said(console) or not machine.running, SECONDS)
        finally:
            await asyncio.to_thread(machine.kill)
        assert f"{MARK} guest.handed=over" in said(console), said(console)[-4000:]
        texts = [each.operation.text for each in site.reports() if each.HasField("operation")]
        assert any("the controller is as it should be" in text for text in texts)
        [nic] = next(each.inventory for each in site.reports() if each.HasField("inventory")).nics
        assert (nic.mac, nic.link, nic.driver) == (MAC, True, "virtio_net")
        assert site.phases() == ["booting", "installing"]


def said(console: Path) -> str:
    return console.read_text(errors="replace") if console.exists() else ""
