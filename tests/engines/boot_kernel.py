"""A kernel, an initial file system and signed loaders for machines that boot over the network, from Debian's packages.

The packages are only unpacked (`python -m tests.engines.install netboot`): installed, they would prepare the machine
that the tests run on for booting. The guest prints lines that begin with `GUEST:`, and powers off.
"""

from __future__ import annotations

import gzip
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path

from tests.engines import EngineCannotRun
from tests.engines.processes import find_program

STORE = Path("/var/cache/longshore-tests/netboot")
KERNEL, SHIM, GRUB = STORE / "vmlinuz", STORE / "shimx64.efi", STORE / "grubx64.efi"
# Of systems on disks: GRUB for UEFI, SYSLINUX and its first sector for BIOS.
DISK_GRUB, SYSLINUX, MASTER_BOOT_RECORD = STORE / "disk-grubx64.efi", STORE / "syslinux", STORE / "mbr.bin"
GRUB_CHECK = STORE / "grub-script-check"
MARK = "GUEST:"
# Without the second, kernels now and then panic on an emulated machine that stands still for a moment ("IO-APIC + timer
# doesn't work").
ARGUMENTS = "console=ttyS0 no_timer_check quiet"
_META = "linux-image-cloud-amd64"
# In the order in which they need each other.
_MODULES = (
    *("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci"),
    *("failover", "net_failover", "virtio_net", "virtio_blk"),
)
_KERNEL_FILES = {"vmlinuz-*": "vmlinuz", **{f"{module}.ko": f"{module}.ko" for module in _MODULES}}
_SHIM, _SHIM_FILES = "shim-signed", {"shimx64.efi.signed": "shimx64.efi"}
_GRUB = "grub-efi-amd64-signed"
_GRUB_FILES = {"grubnetx64.efi.signed": "grubx64.efi", "grubx64.efi.signed": "disk-grubx64.efi"}
_GRUB_TOOLS, _GRUB_TOOLS_FILES = "grub-common", {"bin/grub-script-check": "grub-script-check"}
_SYSLINUX, _SYSLINUX_FILES = "syslinux", {"bin/syslinux": "syslinux", "SYSLINUX/mbr.bin": "mbr.bin"}
_DIRECTORY, _FILE = 0o040755, 0o100755
_INIT = f"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /etc
/bin/busybox --install -s /bin
export PATH=/bin
say() {{ echo "{MARK} $*"; }}
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
for module in /modules/*.ko; do insmod $module || say "no $module"; done
firmware=bios; [ -d /sys/firmware/efi ] && firmware=uefi
waited=0; while [ ! -e /sys/class/net/eth0 ] && [ $waited -lt 100 ]; do sleep 0.1; waited=$((waited + 1)); done
ip link set lo up; ip link set eth0 up
mac=$(cat /sys/class/net/eth0/address)
say "started firmware=$firmware mac=$mac"
udhcpc -i eth0 -n -q -t 20 -T 1 -s /lease.sh >/dev/null 2>&1
say "lease $(cat /tmp/lease)"
for word in $(cat /proc/cmdline); do case $word in guest.*=*) say "$word" ;; fetch=*)
  say "fetched $(wget -q -O - "${{word#fetch=}}")" ;;
esac; done
say done
poweroff -f
"""
_LEASE = """#!/bin/busybox sh
case $1 in bound|renew)
  ip addr replace "$ip/${mask:-24}" dev $interface
  echo "ip=$ip server=$serverid" >/tmp/lease ;;
esac
"""


def install(apt_get: Callable[..., None]) -> None:
    """Blocking; needs the network. `apt_get(*arguments, cwd=...)` runs apt-get."""
    STORE.mkdir(parents=True, exist_ok=True)
    wanted = (
        *((_SHIM, _SHIM_FILES), (_GRUB, _GRUB_FILES), (_SYSLINUX, _SYSLINUX_FILES)),
        *((_GRUB_TOOLS, _GRUB_TOOLS_FILES), (_newest_kernel(), _KERNEL_FILES)),
    )
    for package, files in wanted:
        with tempfile.TemporaryDirectory() as folder:
            apt_get("-o", "APT::Sandbox::User=root", "download", package, cwd=folder)
            _keep(next(Path(folder).glob("*.deb")), files)


def installed() -> bool:
    every = (_SHIM_FILES, _GRUB_FILES, _SYSLINUX_FILES, _GRUB_TOOLS_FILES, _KERNEL_FILES)
    return all((STORE / name).exists() for files in every for name in files.values())


def _newest_kernel() -> str:
    """What the name without a version stands for today."""
    said = subprocess.run(["apt-cache", "depends", _META], capture_output=True, text=True, check=True).stdout
    return next(word for word in said.split() if word.startswith("linux-image-") and word != _META)


def _keep(package: Path, wanted: Mapping[str, str]) -> None:
    """`wanted`: how a file's path ends, as a pattern, and what it is called here."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as unpacker:
        assert unpacker.stdout is not None
        with tarfile.open(fileobj=unpacker.stdout, mode="r|") as content:
            for member in content:
                name = next((kept for end, kept in wanted.items() if fnmatch(member.name, f"*/{end}")), None)
                data = content.extractfile(member) if name and member.isfile() else None
                if name is not None and data is not None:
                    part = STORE / f"{name}.part"
                    part.write_bytes(data.read())
                    part.chmod(member.mode)
                    part.rename(STORE / name)


def initial_file_system(more: Mapping[str, bytes] | None = None) -> bytes:
    """As the kernel unpacks it. `more`: files by path. Raises `EngineCannotRun`."""
    if not installed():
        raise EngineCannotRun("there is no kernel to boot; run `python -m tests.engines.install netboot` as root")
    files = {
        "bin/busybox": Path(find_program("busybox", "netboot")).read_bytes(),
        "init": _INIT.encode(),
        "lease.sh": _LEASE.encode(),
        **{
            f"modules/{number:02}-{module}.ko": (STORE / f"{module}.ko").read_bytes()
            for number, module in enumerate(_MODULES)
        },
        **(more or {}),
    }
    return gzip.compress(archive(files), compresslevel=1, mtime=0)


def archive(files: Mapping[str, bytes]) -> bytes:
    """In the kernel's format (cpio "newc", Documentation/driver-api/early-userspace/buffer-format.rst)."""
    folders = {str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}
    entries = [(folder, _DIRECTORY, b"") for folder in sorted(folders)]
    entries += [(name, _FILE, content) for name, content in files.items()]
    written = b"".join(_entry(number, *entry) for number, entry in enumerate(entries, 1))
    return written + _entry(0, "TRAILER!!!", 0, b"")


def _entry(number: int, name: str, mode: int, content: bytes) -> bytes:
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
