"""Whether a disk layout can be made; pure."""

from __future__ import annotations

from collections.abc import Iterator

from control_plane.machines.answers import words
from control_plane.machines.answers.failures import Problem
from control_plane.machines.answers.model import Layout, Partition, Storage

_LEAST_ROOT_MEBIBYTES = 2048
# Below it mkfs.xfs refuses (300 MiB since xfsprogs 5.19), and /boot holds no kernel.
_LEAST_MEBIBYTES = 300
_LARGEST_MEBIBYTES = 1 << 30


def storage_problems(storage: Storage) -> Iterator[Problem]:
    """What is wrong with a disk layout, whatever the system."""
    if storage.encrypted:
        yield Problem("storage.encrypted", "the passphrase would lie beside the lock; encrypt after the installation")
    yield from _disk_problems(storage)
    if not words.is_volume_group(storage.volume_group):
        yield Problem("storage.volume_group", "letters, digits, _ . and -")
    yield from _partition_problems(storage)


def _disk_problems(storage: Storage) -> Iterator[Problem]:
    wanted = 2 if storage.layout is Layout.RAID1 else 1
    if len(storage.disks) != wanted:
        yield Problem("storage.disks", f"{storage.layout.value} takes exactly {wanted}")
    for index, disk in enumerate(storage.disks):
        where = f"storage.disks[{index}]"
        if disk.path and not words.is_device(disk.path):
            yield Problem(f"{where}.path", "a path below /dev")
        if disk.serial and not words.is_serial(disk.serial):
            yield Problem(f"{where}.serial", "letters, digits, . _ : + and -")
        if disk.wwn and not words.is_wwn(disk.wwn):
            yield Problem(f"{where}.wwn", "as udev writes it: 0x5000c500a1b2c3d4")
    if storage.layout is Layout.RAID1 and not all(disk.path or disk.serial or disk.wwn for disk in storage.disks):
        yield Problem("storage.disks", "name both disks of a mirror")
    if len(set(storage.disks)) != len(storage.disks):
        yield Problem("storage.disks", "a disk is there twice")


def _partition_problems(storage: Storage) -> Iterator[Problem]:
    partitions = storage.partitions
    if not partitions:
        return
    if storage.layout is Layout.AUTOMATIC:
        yield Problem("storage.partitions", "the automatic layout takes none; use plain, lvm or raid1")
    mounts = [partition.mount for partition in partitions]
    if "/" not in mounts:
        yield Problem("storage.partitions", "there is no /")
    if len(partitions) > 16 or len(set(mounts)) != len(mounts):
        yield Problem("storage.partitions", "at most 16, and each place once")
    if sum(partition.grow for partition in partitions) > 1:
        yield Problem("storage.partitions", "only one may grow")
    for index, partition in enumerate(partitions):
        yield from _one_partition(f"storage.partitions[{index}]", partition)


def _one_partition(where: str, partition: Partition) -> Iterator[Problem]:
    if not words.is_mount(partition.mount) or partition.mount.startswith("/boot/efi"):
        yield Problem(f"{where}.mount", "an absolute path or swap; /boot/efi is made by itself")
    least = _LEAST_ROOT_MEBIBYTES if partition.mount == "/" else _LEAST_MEBIBYTES
    if not least <= partition.mebibytes <= _LARGEST_MEBIBYTES:
        yield Problem(f"{where}.mebibytes", f"{least} to {_LARGEST_MEBIBYTES}")
    if partition.label and (not words.is_label(partition.label) or partition.mount == "swap"):
        yield Problem(f"{where}.label", "letters, digits, _ . and -, at most 12; swap has none")
    if partition.mount == "swap" and partition.filesystem is not None:
        yield Problem(f"{where}.filesystem", "swap has none")
