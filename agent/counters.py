"""One look at this host's counters, as the kernel keeps them. Never fails: what cannot be read is zero."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import psutil

from agent.inventory_reading import counted_disk, counted_interface
from agent.samples import HostCounters


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
