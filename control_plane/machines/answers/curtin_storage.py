"""The disk layout as Ubuntu's installer takes it: its own layout "direct", or curtin's list of actions; pure.

Source: curtin's storage documentation and the autoinstall reference. Invariant: only the chosen disks are named, and
what takes the rest (size -1) is the last action on its device, as the installer demands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from control_plane.machines.answers.model import Disk, Firmware, Installation, Layout, Partition, Storage
from control_plane.machines.answers.partitions import (
    BIOS_BOOT_MEBIBYTES,
    ESP_MEBIBYTES,
    boot_of,
    partitions_of,
    volume_name,
    volumes_of,
)

_MEBIBYTE = 1 << 20
_REST = -1
Action = dict[str, Any]


def storage(it: Installation) -> dict[str, Any]:
    if it.storage.layout is Layout.AUTOMATIC and not it.storage.disks[0].wwn:
        return {"layout": {"name": "direct", "match": _match(it.storage.disks[0])}}
    actions: list[Action] = []
    for index in range(len(it.storage.disks)):
        actions += _disk(it, index)
    if it.storage.layout is Layout.RAID1:
        actions += _raid(it.storage)
    elif it.storage.layout is Layout.LVM:
        actions += _lvm(it.storage)
    else:
        for number, one in enumerate(partitions_of(it.storage), start=2):
            actions.append(_partition(f"disk0-{number}", "disk0", one))
            actions += _filled(f"disk0-{number}", one)
    return {"swap": {"size": 0}, "config": actions}


def _match(disk: Disk) -> dict[str, str]:
    if disk.path:
        return {"path": disk.path}
    return {"serial": disk.serial} if disk.serial else {"size": "smallest"}


def _chosen(disk: Disk) -> Action:
    for name, value in (("path", disk.path), ("serial", disk.serial), ("wwn", disk.wwn)):
        if value:
            return {name: value}
    return {"match": {"size": "smallest"}}


def _disk(it: Installation, index: int) -> list[Action]:
    """With what its firmware needs as the first partition. Each disk of a mirror can be booted."""
    name, bios = f"disk{index}", it.firmware is Firmware.BIOS
    disk: Action = {"type": "disk", "id": name, **_chosen(it.storage.disks[index]), "ptable": "gpt"}
    disk |= {"wipe": "superblock-recursive", "preserve": False, "grub_device": bios}
    first: Action = {"type": "partition", "id": f"{name}-1", "device": name, "preserve": False}
    if bios:
        return [disk, {**first, "size": BIOS_BOOT_MEBIBYTES * _MEBIBYTE, "flag": "bios_grub"}]
    first |= {"size": ESP_MEBIBYTES * _MEBIBYTE, "flag": "boot", "grub_device": True, "wipe": "superblock"}
    made = [disk, first, {"type": "format", "id": f"{name}-1-fs", "volume": f"{name}-1", "fstype": "fat32"}]
    if index == 0:
        made.append({"type": "mount", "id": f"{name}-1-mount", "device": f"{name}-1-fs", "path": "/boot/efi"})
    return made


def _size(one: Partition) -> int:
    return _REST if one.grow else one.mebibytes * _MEBIBYTE


def _partition(name: str, device: str, one: Partition) -> Action:
    made: Action = {"type": "partition", "id": name, "device": device, "size": _size(one), "preserve": False}
    made["wipe"] = "superblock"
    return {**made, "flag": "swap"} if one.mount == "swap" else made


def _filled(volume: str, one: Partition) -> list[Action]:
    """The file system on a partition, array or logical volume, and where it is mounted."""
    fstype = "swap" if one.mount == "swap" or one.filesystem is None else one.filesystem.value
    made: Action = {"type": "format", "id": f"{volume}-fs", "volume": volume, "fstype": fstype, "preserve": False}
    if one.label:
        made["label"] = one.label
    path = "" if one.mount == "swap" else one.mount
    return [made, {"type": "mount", "id": f"{volume}-mount", "device": f"{volume}-fs", "path": path}]


def _lvm(storage: Storage) -> list[Action]:
    boot, group = boot_of(storage), storage.volume_group
    rest: Action = {"type": "partition", "id": "disk0-3", "device": "disk0", "size": _REST, "preserve": False}
    actions = [_partition("disk0-2", "disk0", boot), *_filled("disk0-2", boot), {**rest, "wipe": "superblock"}]
    actions.append({"type": "lvm_volgroup", "id": "group", "name": group, "devices": ["disk0-3"], "preserve": False})
    for one in volumes_of(storage):
        name = volume_name(one)
        actions.append(
            {
                "type": "lvm_partition",
                "id": f"volume-{name}",
                "volgroup": "group",
                "name": name,
                "size": _size(one),
                "wipe": "superblock",
                "preserve": False,
            }
        )
        actions += _filled(f"volume-{name}", one)
    return actions


def _raid(storage: Storage) -> list[Action]:
    """Arrays are made of equal partitions; the one that grows takes the rest of each disk."""
    actions: list[Action] = []
    for number, one in enumerate(partitions_of(storage), start=2):
        members = [f"disk{index}-{number}" for index in range(len(storage.disks))]
        actions += [_member(name, name.split("-")[0], one) for name in members]
        name = f"md{number - 2}"
        actions.append(_array(name, members))
        actions += _filled(name, one)
    return actions


def _member(name: str, device: str, one: Partition) -> Action:
    return {
        "type": "partition",
        "id": name,
        "device": device,
        "size": _size(one),
        "wipe": "superblock",
        "preserve": False,
    }


def _array(name: str, members: Sequence[str]) -> Action:
    return {"type": "raid", "id": name, "name": name, "raidlevel": "raid1", "devices": list(members), "preserve": False}
