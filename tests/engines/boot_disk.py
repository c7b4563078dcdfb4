"""A disk with an operating system that says that it runs: what an installation writes, small enough for many of them.

One FAT partition that BIOS boots through SYSLINUX, and UEFI, with Secure Boot too, through Debian's signed shim, GRUB
and kernel. The system is that of `boot_kernel`: it prints lines that begin with `GUEST:`, and powers off.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from pathlib import Path

from tests.engines.boot_kernel import (
    ARGUMENTS,
    DISK_GRUB,
    KERNEL,
    MASTER_BOOT_RECORD,
    SHIM,
    SYSLINUX,
    initial_file_system,
)
from tests.engines.processes import SEARCH_PATH, find_program

DISK_BYTES = 24 << 20
_SECTOR, _FIRST = 512, 2048
# OVMF takes a table of the old kind too, if the partition is of the kind that the specification reserves for it.
_ACTIVE, _EFI_SYSTEM = 0x80, 0xEF
_SIGNATURE = b"\x55\xaa"
_FOLDERS = ("EFI", "EFI/BOOT", "EFI/debian")


def system_disk(path: Path, name: str) -> None:
    """`name`: the system says it as `guest.system=`. Blocking. Raises `EngineCannotRun`."""
    arguments = f"{ARGUMENTS} guest.system={name}"
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        partition = Path(folder) / "partition"
        with partition.open("wb") as file:
            file.truncate(DISK_BYTES - _FIRST * _SECTOR)
        _run("mkfs.vfat", "-F", "16", "-h", str(_FIRST), "-i", "4c534843", "-n", "SYSTEM", str(partition))
        _run(str(SYSLINUX), "--install", str(partition))
        for directory in _FOLDERS:
            _run("mmd", "-i", str(partition), f"::/{directory}")
        for inside, content in _files(arguments).items():
            source = Path(folder) / "file"
            source.write_bytes(content)
            _run("mcopy", "-i", str(partition), str(source), f"::/{inside}")
        with path.open("wb") as disk:
            disk.write(_first_sector())
            disk.seek(_FIRST * _SECTOR)
            disk.write(partition.read_bytes())


def _files(arguments: str) -> dict[str, bytes]:
    find = "search --no-floppy --file --set=root /vmlinuz"
    grub = f"set timeout=0\n{find}\nlinux /vmlinuz {arguments}\ninitrd /initrd\nboot\n"
    return {
        "syslinux.cfg": f"DEFAULT it\nLABEL it\n  LINUX /vmlinuz\n  INITRD /initrd\n  APPEND {arguments}\n".encode(),
        "EFI/BOOT/BOOTX64.EFI": SHIM.read_bytes(),
        "EFI/BOOT/grubx64.efi": DISK_GRUB.read_bytes(),
        "EFI/debian/grub.cfg": grub.encode(),
        "initrd": initial_file_system(),
        "vmlinuz": KERNEL.read_bytes(),
    }


def _first_sector() -> bytes:
    """SYSLINUX's code boots the active partition; its addresses are in sectors alone (LBA)."""
    entry = struct.pack(
        "<B3sB3sII", _ACTIVE, b"\xfe\xff\xff", _EFI_SYSTEM, b"\xfe\xff\xff", _FIRST, DISK_BYTES // _SECTOR - _FIRST
    )
    return MASTER_BOOT_RECORD.read_bytes()[:440].ljust(446, b"\0") + entry.ljust(64, b"\0") + _SIGNATURE


def _run(program: str, *arguments: str) -> None:
    found = program if program.startswith("/") else find_program(program, "netboot")
    subprocess.run([found, *arguments], check=True, capture_output=True, timeout=60, env={"PATH": SEARCH_PATH})
