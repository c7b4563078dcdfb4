"""Installations that the tests of answers render: every layout, firmware and network."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

from common.late_words import LateFacts, fill
from control_plane.machines.answers.examples import example
from control_plane.machines.answers.model import (
    Answers,
    Bond,
    BondMode,
    Disk,
    Family,
    Filesystem,
    Firmware,
    Installation,
    Interface,
    Layout,
    Network,
    Partition,
    Storage,
    System,
    User,
    Vlan,
)
from control_plane.machines.answers.rendering import render

NONCE = "0123456789abcdef0123456789abcdef"
TOKEN = "a-one-time-token-of-43-letters-and-digits_x"
FACTS = LateFacts(
    base_url="http://192.0.2.1:8081",
    documents_url=f"http://192.0.2.1:8081/boot/documents/{TOKEN}",
    device_url="http://192.0.2.1:8081/api/v1/device",
    token=TOKEN,
)
SHA512 = f"$6$rounds=5000$saltsalt${'b' * 86}"
YESCRYPT = f"$y$j9T$saltsaltsaltsaltsalt${'c' * 43}"
KEY = example(System(Family.ROCKY, "9"), Firmware.BIOS).users[0].ssh_keys[0]

ROCKY = [System(Family.ROCKY, "8"), System(Family.ROCKY, "9")]
CENTOS = [System(Family.CENTOS, "7"), System(Family.CENTOS_STREAM, "9")]
DEBIAN = [System(Family.DEBIAN, "11"), System(Family.DEBIAN, "12")]
UBUNTU = [System(Family.UBUNTU, version) for version in ("20.04", "22.04", "24.04")]

_SDA, _SDB = Disk("/dev/sda"), Disk("/dev/disk/by-id/nvme-eui.0025")
_OWN = (
    Partition("/boot", 1024),
    Partition("swap", 4096),
    Partition("/", 20480, grow=True),
    Partition("/var/log", 4096, filesystem=Filesystem.XFS),
)
STORAGES = {
    "automatic": Storage(),
    "automatic-path": Storage(disks=(_SDA,)),
    "automatic-wwn": Storage(disks=(Disk(wwn="0x5000c500a1b2c3d4"),)),
    "plain": Storage(Layout.PLAIN, (_SDA,)),
    "plain-own": Storage(Layout.PLAIN, (Disk(serial="S1"),), (*_OWN, Partition("/srv", 4096, label="srv"))),
    "lvm": Storage(Layout.LVM, (_SDA,), filesystem=Filesystem.XFS),
    "lvm-own": Storage(Layout.LVM, (Disk(),), _OWN[1:], volume_group="vg_0"),
    "raid1": Storage(Layout.RAID1, (_SDA, _SDB)),
    "raid1-own": Storage(Layout.RAID1, (_SDA, Disk(serial="S2")), _OWN, Filesystem.XFS),
}
_ETH0, _ETH1 = Interface("eth0", mac="52:54:00:00:00:01"), Interface("eth1", mac="52:54:00:00:00:02")
NETWORKS = {
    "dhcp": Network(),
    "dhcp-named": Network((Interface("eth0", mac="52:54:00:00:00:01", dhcp4=True, dhcp6=True, mtu=9000),)),
    "static4": Network(
        (dataclasses.replace(_ETH0, addresses=("192.0.2.5/24",), gateway4="192.0.2.1"),), ("192.0.2.53",)
    ),
    "static6": Network((dataclasses.replace(_ETH0, addresses=("2001:db8::5/64",), gateway6="fe80::1"),)),
    "both": Network(
        (
            dataclasses.replace(
                _ETH0,
                addresses=("192.0.2.5/24", "2001:db8::5/64"),
                gateway4="192.0.2.1",
                gateway6="2001:db8::1",
            ),
        ),
        ("192.0.2.53", "2001:db8::53"),
    ),
    "vlan": Network((_ETH0, Interface("eth0.7", dhcp4=True, vlan=Vlan("eth0", 7)))),
    "bond": Network(
        (
            _ETH0,
            _ETH1,
            Interface("bond0", bond=Bond(("eth0", "eth1"), BondMode.LACP)),
            Interface("bond0.7", addresses=("192.0.2.5/24",), gateway4="192.0.2.1", vlan=Vlan("bond0", 7)),
        )
    ),
}
USERS = (
    User("ops", 'Renée O\'Hara "root" #1 $HOME `id`', SHA512, (KEY,), administrator=True),
    User("robot", ssh_keys=(KEY,), administrator=True),
    User("viewer"),
)


def installation(system: System, storage: str = "automatic", network: str = "dhcp", **other: object) -> Installation:
    base = example(system, Firmware.BIOS)
    changed = {"storage": STORAGES[storage], "network": NETWORKS[network], "users": USERS, **other}
    return dataclasses.replace(base, **changed)  # type: ignore[arg-type]


def every(systems: list[System]) -> Iterator[Installation]:
    """Each layout and each network for each system and firmware, two at a time and not their product."""
    for system in systems:
        for firmware in Firmware:
            for storage, network in itertools.zip_longest(STORAGES, NETWORKS, fillvalue="dhcp"):
                yield installation(system, storage, network, firmware=firmware)


def rendered(it: Installation, *, image: bool = False) -> Answers:
    return render(it, nonce=NONCE, image=image)


def served(it: Installation, name: str, *, image: bool = False) -> str:
    """A document as its machine reads it."""
    answers = rendered(it, image=image)
    return fill(next(one.text for one in answers.documents if one.name == name), NONCE, FACTS)
