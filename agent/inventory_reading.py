"""What the kernel says of this machine, read from its text files; parsing is pure, reading never fails.

Sources: proc(5) for /proc/cpuinfo, sysfs ABI (Documentation/ABI/testing/sysfs-block, sysfs-class-net), os-release(5),
DMI vendor names as systemd-detect-virt knows them (src/basic/virt.c), x86-64 psABI 3.1.1 for the levels.

Invariant: a file that is missing, unreadable or nonsense makes its fact empty, and nothing else.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from agent.inventory_model import Disk, Interface, Machine, Processor
from common.host_counters import counted_disk, counted_interface

_SECTOR_BYTES = 512  # sysfs counts in these whatever the disk does
_WANTED_FLAGS = frozenset({"vmx", "svm", "aes", "avx", "avx2", "avx512f", "sha_ni", "hypervisor", "asimd", "sve"})
# Level 2 and up, each as the flags that Linux shows for it.
_LEVELS = (
    ("x86-64-v2", frozenset({"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"})),
    ("x86-64-v3", frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"})),
    ("x86-64-v4", frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})),
)
_VENDORS = {
    "KVM": "kvm",
    "QEMU": "qemu",
    "Amazon EC2": "amazon",
    "VMware": "vmware",
    "VMW": "vmware",
    "innotek GmbH": "oracle",
    "Oracle Corporation": "oracle",
    "Xen": "xen",
    "Bochs": "bochs",
    "Parallels": "parallels",
    "BHYVE": "bhyve",
    "Microsoft Corporation": "microsoft",
    "Google": "google",
    "OpenStack Foundation": "openstack",
}


def read_machine(root: Path = Path("/")) -> Machine:
    """`root`: where /proc and /sys are. Blocking, about a millisecond."""
    cpuinfo = _text(root / "proc/cpuinfo")
    return Machine(
        kernel=_text(root / "proc/sys/kernel/osrelease"),
        os_release=os_release_name(_text(root / "etc/os-release")),
        virtualisation=_virtualisation(root, cpuinfo),
        boot_id=_text(root / "proc/sys/kernel/random/boot_id"),
        processor=processor_of(cpuinfo),
        disks=tuple(_disks(root / "sys/block")),
        interfaces=interfaces(),
    )


def processor_of(cpuinfo: str) -> Processor:
    blocks = [_fields(block) for block in cpuinfo.split("\n\n") if "processor" in block]
    if not blocks:
        return Processor()
    first = blocks[0]
    sockets = {block.get("physical id", "0") for block in blocks}
    cores = {(block.get("physical id", "0"), block.get("core id", str(at))) for at, block in enumerate(blocks)}
    flags = frozenset((first.get("flags") or first.get("Features") or "").split())
    return Processor(
        model=(first.get("model name") or first.get("Model") or first.get("cpu model") or "")[:120],
        sockets=len(sockets),
        cores=len(cores),
        threads=len(blocks),
        flags=(*_levels(flags), *sorted(flags & _WANTED_FLAGS)),
    )


def os_release_name(text: str) -> str:
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            try:
                return " ".join(shlex.split(value))[:120]
            except ValueError:
                return ""
    return ""


def interfaces() -> tuple[Interface, ...]:
    try:
        states, addresses = psutil.net_if_stats(), psutil.net_if_addrs()
    except OSError:
        return ()
    found = []
    for name, state in sorted(states.items()):
        if counted_interface(name):
            own = addresses.get(name, [])
            mac = next((one.address for one in own if one.family == psutil.AF_LINK), "")
            shown = (_with_prefix(one.address, one.netmask) for one in own if one.family != psutil.AF_LINK)
            speed = state.speed if 0 < state.speed < 1 << 31 else 0
            found.append(Interface(name, mac, tuple(sorted(shown)), speed, state.isup))
    return tuple(found)


def _with_prefix(address: str, netmask: str | None) -> str:
    plain = address.partition("%")[0]
    if not netmask:
        return plain
    try:
        bits = int(ipaddress.ip_address(netmask.partition("/")[0])).bit_count()
    except ValueError:
        return plain
    return f"{plain}/{bits}"


def _levels(flags: frozenset[str]) -> Sequence[str]:
    reached = []
    for name, needed in _LEVELS:
        if not needed <= flags:
            break
        reached.append(name)
    return reached


def _virtualisation(root: Path, cpuinfo: str) -> str:
    """A container first, then the machine that it, or we, are in."""
    if (root / ".dockerenv").exists():
        return "docker"
    container = next(
        (
            variable.removeprefix("container=")
            for variable in _text(root / "proc/1/environ").split("\0")
            if variable.startswith("container=")
        ),
        _text(root / "run/systemd/container"),
    )
    if container:
        return container[:32]
    for name in ("product_name", "sys_vendor", "board_vendor", "bios_vendor"):
        said = _text(root / "sys/class/dmi/id" / name)
        for vendor, word in _VENDORS.items():
            if said.startswith(vendor):
                return word
    return "unknown" if " hypervisor" in cpuinfo else ""


def _disks(directory: Path) -> Iterable[Disk]:
    try:
        names = sorted(entry.name for entry in directory.iterdir())
    except OSError:
        return
    for name in names:
        size = _number(_text(directory / name / "size")) * _SECTOR_BYTES
        if size and counted_disk(name, directory):
            model = _text(directory / name / "device/model") or _text(directory / name / "device/name")
            yield Disk(name, model[:120], size, _text(directory / name / "queue/rotational") == "1")


def _fields(block: str) -> Mapping[str, str]:
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, separator, value in pairs if separator}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
