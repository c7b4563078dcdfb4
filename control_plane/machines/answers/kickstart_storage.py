"""The disk layout as Kickstart's commands; pure.

Invariant: only the disks that were chosen are cleared, all others are ignored. Disks chosen by serial, WWN or size are
looked for in %pre, on the machine itself.
"""

from __future__ import annotations

from control_plane.machines.answers.disks import FIND_DISK, disk_choice
from control_plane.machines.answers.late import Late
from control_plane.machines.answers.model import Filesystem, Firmware, Installation, Layout, Partition
from control_plane.machines.answers.partitions import (
    BIOS_BOOT_MEBIBYTES,
    ESP_MEBIBYTES,
    boot_of,
    partitions_of,
    volume_name,
    volumes_of,
)

_INCLUDED = "/tmp/longshore-storage.ks"  # noqa: S108  the installer's own /tmp, before anybody logs in


def storage(it: Installation, late: Late) -> tuple[str, str]:
    """(commands, %pre section or nothing)."""
    disks = it.storage.disks
    if all(disk.path for disk in disks):
        return _commands(it, [disk.path.removeprefix("/dev/") for disk in disks]), ""
    names = [f"@disk{index}@" for index in range(len(disks))]
    found = [f"disk{index}=$(find_disk {disk_choice(disk)}) || exit 1" for index, disk in enumerate(disks)]
    filled = " ".join(f'-e "s|{name}|$disk{index}|g"' for index, name in enumerate(names))
    pre = [
        "%pre --interpreter=/bin/sh --erroronfail",
        FIND_DISK.rstrip(),
        *found,
        f"sed {filled} >{_INCLUDED} <<'{late.ends()}'",
        _commands(it, names),
        late.ends(),
        "%end",
    ]
    return f"%include {_INCLUDED}", "\n".join(pre)


def _commands(it: Installation, disks: list[str]) -> str:
    drives = ",".join(disks)
    arguments = f' --append="{" ".join(it.kernel_arguments)}"' if it.kernel_arguments else ""
    lines = [
        f"ignoredisk --only-use={drives}",
        "zerombr",
        f"clearpart --all --initlabel --disklabel=gpt --drives={drives}",
        f"bootloader --location=mbr --boot-drive={disks[0]}{arguments}",
    ]
    if it.storage.layout is Layout.AUTOMATIC:
        lines.append(f"autopart --type=plain --fstype={it.storage.filesystem.value}")
    elif it.storage.layout is Layout.PLAIN:
        lines += ["reqpart", *(_part(one, disks[0]) for one in partitions_of(it.storage))]
    elif it.storage.layout is Layout.LVM:
        lines += _lvm(it, disks[0])
    else:
        lines += _raid(it, disks)
    return "\n".join(lines)


def _fstype(partition: Partition) -> str:
    return "swap" if partition.mount == "swap" else (partition.filesystem or Filesystem.EXT4).value


def _part(partition: Partition, disk: str) -> str:
    words = [f"part {partition.mount} --fstype={_fstype(partition)} --size={partition.mebibytes} --ondisk={disk}"]
    return " ".join([*words, *_label(partition), *(["--grow"] if partition.grow else [])])


def _label(partition: Partition) -> list[str]:
    return [f"--label={partition.label}"] if partition.label else []


def _lvm(it: Installation, disk: str) -> list[str]:
    group = it.storage.volume_group
    lines = ["reqpart", _part(boot_of(it.storage), disk), f"part pv.1 --size=1 --grow --ondisk={disk}"]
    lines.append(f"volgroup {group} pv.1")
    for one in volumes_of(it.storage):
        words = [
            f"logvol {one.mount} --vgname={group} --name={volume_name(one)} --fstype={_fstype(one)}",
            f"--size={one.mebibytes}",
            *_label(one),
            *(["--grow"] if one.grow else []),
        ]
        lines.append(" ".join(words))
    return lines


def _raid(it: Installation, disks: list[str]) -> list[str]:
    """`reqpart` serves one disk, so what the firmware needs is written out for both; Anaconda keeps the metadata of an
    array with an ESP at its end (1.0), where firmware does not see it.
    """
    lines: list[str] = []
    arrays: list[str] = []
    if it.firmware is Firmware.BIOS:
        lines += [f"part biosboot --fstype=biosboot --size={BIOS_BOOT_MEBIBYTES} --ondisk={disk}" for disk in disks]
    else:
        members = _members(lines, "raid.9", f"--size={ESP_MEBIBYTES}", disks)
        arrays.append(f"raid /boot/efi --device=esp --fstype=efi --level=1 {members}")
    for index, one in enumerate(partitions_of(it.storage)):
        size = f"--size={one.mebibytes}" + (" --grow" if one.grow else "")
        members = _members(lines, f"raid.{index + 10}", size, disks)
        name = volume_name(one).replace("--", "-")
        label = "".join(f" {word}" for word in _label(one))
        arrays.append(f"raid {one.mount} --device={name} --fstype={_fstype(one)} --level=1{label} {members}")
    return lines + arrays


def _members(lines: list[str], name: str, size: str, disks: list[str]) -> str:
    """Puts one partition on each disk into `lines`; their names."""
    names = [f"{name}{index}" for index in range(len(disks))]
    lines += [f"part {member} {size} --ondisk={disk}" for member, disk in zip(names, disks, strict=True)]
    return " ".join(names)
