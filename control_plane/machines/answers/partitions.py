"""What a layout comes to, disk by disk, the same for every installer; pure.

Invariants: what grows is the last of its disk; /boot is a partition of its own where the root is a logical volume, as
Anaconda demands it.
"""

from __future__ import annotations

from dataclasses import replace

from control_plane.machines.answers.model import Filesystem, Layout, Partition, Storage

ESP_MEBIBYTES = 512
BIOS_BOOT_MEBIBYTES = 1
_BOOT = Partition(mount="/boot", mebibytes=1024, filesystem=Filesystem.EXT4)
_DEFAULT = (_BOOT, Partition(mount="swap", mebibytes=2048), Partition(mount="/", mebibytes=8192, grow=True))


def partitions_of(storage: Storage) -> tuple[Partition, ...]:
    """Of every layout but the automatic one, each with its filesystem, what grows at the end."""
    wanted = storage.partitions or _DEFAULT
    if storage.layout is Layout.LVM and not any(partition.mount == "/boot" for partition in wanted):
        wanted = (_BOOT, *wanted)
    filled = [
        partition
        if partition.filesystem or partition.mount == "swap"
        else replace(partition, filesystem=storage.filesystem)
        for partition in wanted
    ]
    return tuple(sorted(filled, key=lambda partition: (partition.grow, partition.mount != "/boot")))


def volumes_of(storage: Storage) -> tuple[Partition, ...]:
    """What of an LVM layout lies in the volume group: all but /boot."""
    return tuple(partition for partition in partitions_of(storage) if partition.mount != "/boot")


def boot_of(storage: Storage) -> Partition:
    return next(partition for partition in partitions_of(storage) if partition.mount == "/boot")


def volume_name(partition: Partition) -> str:
    """Of a logical volume or an array: "root", "swap", "var-log"."""
    if partition.mount == "/":
        return "root"
    return partition.mount.strip("/").replace("-", "--").replace("/", "-").replace(".", "_")
