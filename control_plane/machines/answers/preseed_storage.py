"""The disk layout for Debian's partman, and the script that tells it which disks; pure.

Source: partman-auto-recipe.txt and partman-auto-raid-recipe.txt of debian-installer. Sizes there are megabytes of 10^6.
Invariant: partman is told its disks only by the script, which ends with an error where a disk that was named is not.
"""

from __future__ import annotations

from control_plane.machines.answers.disks import FIND_DISK, disk_choice
from control_plane.machines.answers.model import Filesystem, Firmware, Installation, Layout, Partition, Storage
from control_plane.machines.answers.partitions import (
    BIOS_BOOT_MEBIBYTES,
    ESP_MEBIBYTES,
    partitions_of,
    volume_name,
)

DISKS = "disks.sh"
_MEBIBYTE, _MEGABYTE = 1 << 20, 1_000_000


def storage(it: Installation) -> list[str]:
    """Lines for debconf."""
    layout = it.storage.layout
    method = {Layout.LVM: "lvm", Layout.RAID1: "raid"}.get(layout, "regular")
    lines = [
        f"d-i partman-auto/method string {method}",
        # Without a name partman would take the only disk there is; the script names the right one.
        "d-i partman-auto/disk string /dev/longshore-not-chosen",
        "d-i partman-basicfilesystems/no_swap boolean false",
        "d-i partman-partitioning/choose_label select gpt",
        "d-i partman/default_label string gpt",
        "d-i partman-partitioning/confirm_write_new_label boolean true",
        "d-i partman-lvm/device_remove_lvm boolean true",
        "d-i partman-md/device_remove_md boolean true",
        "d-i partman-lvm/confirm boolean true",
        "d-i partman-lvm/confirm_nooverwrite boolean true",
        "d-i partman-md/confirm boolean true",
        "d-i partman-md/confirm_nooverwrite boolean true",
        "d-i partman/choose_partition select finish",
        "d-i partman/confirm boolean true",
        "d-i partman/confirm_nooverwrite boolean true",
        f"d-i partman-efi/non_efi_system boolean {'true' if it.firmware is Firmware.UEFI else 'false'}",
        f"d-i partman/default_filesystem string {it.storage.filesystem.value}",
    ]
    if layout is Layout.LVM:
        lines += [
            "d-i partman-auto-lvm/guided_size string max",
            f"d-i partman-auto-lvm/new_vg_name string {it.storage.volume_group}",
        ]
    if layout is Layout.AUTOMATIC:
        return [*lines, "d-i partman-auto/choose_recipe select atomic"]
    recipe = " ".join(f"{entry} ." for entry in _recipe(it))
    return [
        *lines,
        "d-i partman-auto/choose_recipe select longshore",
        f"d-i partman-auto/expert_recipe string longshore :: {recipe}",
    ]


def disks_script(it: Installation) -> str:
    """`disks.sh`, for partman/early_command."""
    storage = it.storage
    lines = ["#!/bin/sh", "# Tells partman which disks are meant.", FIND_DISK.rstrip()]
    lines += [
        f"disk{index}=/dev/$(find_disk {disk_choice(disk)}) || exit 1" for index, disk in enumerate(storage.disks)
    ]
    disks = " ".join(f"$disk{index}" for index in range(len(storage.disks)))
    lines += [f'debconf-set partman-auto/disk "{disks}"', f'debconf-set grub-installer/bootdev "{disks}"']
    if storage.layout is Layout.RAID1:
        lines += [_PARTITION.rstrip(), f'debconf-set partman-auto-raid/recipe "{_arrays(storage)}"']
    return "\n".join(lines) + "\n"


_PARTITION = """\
part() { # DISK NUMBER
  case $1 in *[0-9]) echo "$1p$2" ;; *) echo "$1$2" ;; esac
}
"""


def _megabytes(mebibytes: int) -> int:
    return -(-mebibytes * _MEBIBYTE // _MEGABYTE)


def _recipe(it: Installation) -> list[str]:
    if it.firmware is Firmware.UEFI:
        size = _megabytes(ESP_MEBIBYTES)
        entries = [f"{size} {size} {size} free $iflabel{{ gpt }} $reusemethod{{ }} method{{ efi }} format{{ }}"]
    else:
        size = _megabytes(BIOS_BOOT_MEBIBYTES)
        entries = [f"{size} {size} {size} free $iflabel{{ gpt }} $reusemethod{{ }} method{{ biosgrub }}"]
    if it.storage.layout is Layout.LVM:
        entries += [_entry(one, it.storage) for one in partitions_of(it.storage) if one.mount == "/boot"]
        group = it.storage.volume_group
        entries.append(f"1024 1024 -1 ext4 $defaultignore{{ }} $primary{{ }} method{{ lvm }} vg_name{{ {group} }}")
        return entries + [_entry(one, it.storage) for one in partitions_of(it.storage) if one.mount != "/boot"]
    if it.storage.layout is Layout.RAID1:
        return entries + [f"{_sizes(one)} raid $primary{{ }} method{{ raid }}" for one in partitions_of(it.storage)]
    return entries + [_entry(one, it.storage) for one in partitions_of(it.storage)]


def _sizes(one: Partition) -> str:
    """Least, priority, most. All that is left goes to the one without an end."""
    size = _megabytes(one.mebibytes)
    return f"{size} {size + 1} -1" if one.grow else f"{size} {size} {size}"


def _entry(one: Partition, storage: Storage) -> str:
    on_volume = storage.layout is Layout.LVM and one.mount != "/boot"
    place = (
        f"$lvmok{{ }} in_vg{{ {storage.volume_group} }} lv_name{{ {volume_name(one)} }}" if on_volume else "$primary{ }"
    )
    if storage.layout is Layout.LVM and not on_volume:
        place = "$primary{ } $defaultignore{ }"
    if one.mount == "swap":
        return f"{_sizes(one)} linux-swap {place} method{{ swap }} format{{ }}"
    kind = (one.filesystem or Filesystem.EXT4).value
    label = f" label{{ {one.label} }}" if one.label else ""
    return (
        f"{_sizes(one)} {kind} {place} method{{ format }} format{{ }} use_filesystem{{ }} "
        f"filesystem{{ {kind} }}{label} mountpoint{{ {one.mount} }}"
    )


def _arrays(storage: Storage) -> str:
    """Partition 1 of each disk is the firmware's."""
    made = []
    for number, one in enumerate(partitions_of(storage), start=2):
        kind, mount = ("swap", "-") if one.mount == "swap" else ((one.filesystem or Filesystem.EXT4).value, one.mount)
        made.append(f"1 2 0 {kind} {mount} $(part $disk0 {number})#$(part $disk1 {number}) .")
    return " ".join(made)


def second_esp(it: Installation) -> str:
    """Shell in the new system: the other disk of a mirror can be booted as well. An ESP is no part of an array:
    firmware writes to it and knows no arrays.
    """
    if it.storage.layout is not Layout.RAID1 or it.firmware is not Firmware.UEFI:
        return ""
    return """\
first=$(findmnt -no SOURCE /boot/efi)
for esp in $(lsblk -pnro NAME,PARTTYPE | awk '$2 == "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" { print $1 }'); do
  [ "$esp" != "$first" ] || continue
  mkfs.vfat -F 32 "$esp" >/dev/null
  mount "$esp" /mnt
  cp -R /boot/efi/. /mnt/
  umount /mnt
done"""
