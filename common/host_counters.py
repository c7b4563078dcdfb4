"""One look at a machine's counters, as the kernel keeps them. Never fails: what cannot be read is zero."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

# Loop devices, RAM disks, optical drives, and what is made of other disks.
_NO_DISKS = ("loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd", "drbd")
# Made by engines, by the dozen, and gone with their instances.
_NO_INTERFACES = ("lo", "veth", "docker", "br-", "lxdbr", "lxcbr", "virbr", "vnet", "tap", "cali", "flannel", "cni")


@dataclass(frozen=True, slots=True)
class HostCounters:
    """One look. Counters since the boot; `at_seconds` on a clock that never runs backwards."""

    at_seconds: float
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)  # by mode: user, system, idle ...
    load_1m: float = 0.0
    memory_used_bytes: int = 0
    memory_total_bytes: int = 0
    disk_free_bytes: int = 0
    disk_total_bytes: int = 0
    disk_read_bytes: int = 0
    disk_written_bytes: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0


def look(data: Path, at_seconds: float) -> HostCounters:
    """`data`: the directory whose disk counts. Blocking, two milliseconds."""
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(data)
    read, written = _disk_bytes()
    received, sent = _network_bytes()
    return HostCounters(
        at_seconds=at_seconds,
        cpu_seconds=psutil.cpu_times()._asdict(),
        load_1m=os.getloadavg()[0],
        memory_used_bytes=memory.total - memory.available,
        memory_total_bytes=memory.total,
        disk_free_bytes=disk.free,
        disk_total_bytes=disk.total,
        disk_read_bytes=read,
        disk_written_bytes=written,
        received_bytes=received,
        sent_bytes=sent,
    )


def counted_interface(name: str) -> bool:
    """Whether it is the host's own, and no engine's."""
    return not name.startswith(_NO_INTERFACES)


def counted_disk(name: str, directory: Path = Path("/sys/block")) -> bool:
    """Whether it is a whole disk, and not made of others."""
    return not name.startswith(_NO_DISKS) and (directory / name).exists()


def _disk_bytes() -> tuple[int, int]:
    """Of whole disks: partitions and what is made of disks would count twice."""
    with contextlib.suppress(OSError, RuntimeError, NotImplementedError):
        found = psutil.disk_io_counters(perdisk=True) or {}
        own = [one for name, one in found.items() if counted_disk(name)]
        return sum(one.read_bytes for one in own), sum(one.write_bytes for one in own)
    return 0, 0


def _network_bytes() -> tuple[int, int]:
    with contextlib.suppress(OSError):
        own = [one for name, one in psutil.net_io_counters(pernic=True).items() if counted_interface(name)]
        return sum(one.bytes_recv for one in own), sum(one.bytes_sent for one in own)
    return 0, 0
