"""A machine as the installer's script sees it: files for /proc, /sys and /dev, and a file for its disk."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.installer.building import Installer
from tests.pace import BUSY_SECONDS

from .boots import Site
from .rack import MAC

SCRIPT = Path(__file__).parents[3] / "deploy/installer/environment/longshore/install"
SECONDS = 60 + BUSY_SECONDS
_FILE, _LINK = 0o100000, 0o120000
_APPLETS = (
    "sh wget sed tr head tail od sort dd sha256sum wc cut cat grep mkdir sleep rm sync uname timeout awk cp readlink "
    "mkfifo tee zcat xzcat truncate"
)
_MTOOLS = ("mcopy", "mformat", "mdir", "mlabel")


@dataclass(frozen=True)
class Tools:
    """`shell` runs the script; `path`: where it finds programs."""

    shell: str
    path: str

    def environment(self) -> dict[str, str]:
        return {"PATH": self.path}


def of_the_system() -> Tools:
    return Tools("dash", os.defpath)


def of_busybox(directory: Path) -> Tools:
    """Nothing but Debian's busybox."""
    directory.mkdir()
    for name in _APPLETS.split():
        (directory / name).symlink_to(shutil.which("busybox") or "busybox")
    return Tools(str(directory / "sh"), str(directory))


def of_the_environment(directory: Path, made: Installer) -> Tools:
    """The programs of the real installer environment with its own libraries."""
    root, tools = directory / "root", directory / "tools"
    entries = unpacked(gzip.decompress(made.initrd.read_bytes()))
    for name, (mode, content) in entries.items():
        if mode & 0o170000 == _FILE and name.startswith(("bin/", "lib/lib", "lib/ld-")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
            (root / name).chmod(0o755)
    tools.mkdir()
    for name in _APPLETS.split():
        (tools / name).symlink_to(root / "bin/busybox")
    loader = next((root / "lib").glob("ld-*"))
    programs = {"sfdisk": "bin/sfdisk", "qemu-img": "bin/qemu-img", "zstd": "bin/zstd", "perl": "bin/perl"}
    programs |= dict.fromkeys(_MTOOLS, "bin/mtools")
    for name, program in programs.items():
        words = f"exec {loader} --argv0 {name} --library-path {root}/lib {root / program}"
        (tools / name).write_text(f'#!/bin/sh\n{words} "$@"\n')
        (tools / name).chmod(0o755)
    return Tools(str(tools / "sh"), str(tools))


def unpacked(archive: bytes) -> Mapping[str, tuple[int, bytes]]:
    """Mode and content by name, of cpio "newc"."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        fields = [int(archive[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        name = archive[at + 110 : at + 109 + fields[11]].decode()
        begin = (at + 110 + fields[11] + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], archive[begin : begin + fields[6]])
        at = (begin + fields[6] + 3) // 4 * 4


def machine(root: Path, site: Site, token: str, disk_bytes: int = 4 << 20) -> Path:
    """What the kernel shows of a machine with one disk; the disk."""
    for name in ("dmi/id", "net/eth0/device"):
        (root / "sys/class" / name).mkdir(parents=True)
    for name in ("proc", "dev", "sys/block/sda/device", "sys/block/sda/queue", "sys/block/loop0"):
        (root / name).mkdir(parents=True)
    base = site.machines.device.links.base if site.machines.device.links is not None else site.base
    facts = {
        "proc/cmdline": f"quiet longshore.url={base} longshore.token={token} longshore.mac={MAC}\n",
        "proc/cpuinfo": "".join(
            f"processor : {thread}\nmodel name\t: Fast: CPU\nphysical id : 0\ncore id : {thread // 2}\n"
            for thread in range(4)
        ),
        "proc/meminfo": "MemTotal:  2048 kB\nMemAvailable:  65536 kB\n",
        "sys/class/dmi/id/product_serial": "SN-1\n",
        "sys/class/dmi/id/sys_vendor": 'Vendor "quoted" \\ Inc.\n',
        "sys/class/net/eth0/address": f"{MAC}\n",
        "sys/class/net/eth0/carrier": "1\n",
        "sys/class/net/eth0/speed": "-1\n",
        "sys/class/net/eth0/ifindex": "1\n",
        "sys/block/sda/size": f"{disk_bytes // 512}\n",
        "sys/block/sda/device/model": "DISK\n",
        "sys/block/sda/device/wwid": "naa.5000C500A1B2C3D4\n",
        "sys/block/sda/queue/rotational": "1\n",
    }
    for name, text in facts.items():
        (root / name).write_text(text)
    (root / "sys/block/sda/device/vpd_pg80").write_bytes(b"\0\x80\0\x08  DS-77 ")
    disk = root / "dev/sda"
    disk.write_bytes(b"\xff" * disk_bytes)
    return disk


@asynccontextmanager
async def running(tmp_path: Path, tools: Tools) -> AsyncIterator[asyncio.subprocess.Process]:
    """The script on the machine in `tmp_path / "machine"`."""
    environment = {
        **tools.environment(),
        "LONGSHORE_ROOT": str(tmp_path / "machine"),
        "LONGSHORE_WORK": str(tmp_path / "work"),
        "LONGSHORE_REBOOT": "echo restarted",
        "LONGSHORE_WAIT": "0.05",
    }
    process = await asyncio.create_subprocess_exec(
        tools.shell, str(SCRIPT), env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
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
