"""A machine that uses everything there is, to try templates with; pure."""

from __future__ import annotations

from control_plane.machines.answers.model import (
    Bond,
    Disk,
    Family,
    Firmware,
    Installation,
    Interface,
    Layout,
    Network,
    Repository,
    Storage,
    System,
    User,
    Vlan,
)

_HASH = f"$6$saltsalt${'a' * 86}"
_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA example"


def example(system: System, firmware: Firmware) -> Installation:
    """BIOS: one disk and DHCP. UEFI: a mirror, a bond with a VLAN, fixed addresses."""
    apt = system.family in (Family.DEBIAN, Family.UBUNTU)
    plain = firmware is Firmware.BIOS
    return Installation(
        machine_id="machine-1",
        hostname="node1",
        system=system,
        domain="example.org",
        serial="SN-1",
        mac="52:54:00:12:34:56",
        firmware=firmware,
        ntp_servers=("192.0.2.123",),
        root_password_hash=_HASH,
        users=(User("ops", "Operations", _HASH, (_KEY,), administrator=True), User("viewer")),
        storage=Storage() if plain else Storage(Layout.RAID1, (Disk("/dev/sda"), Disk(serial="SERIAL-2"))),
        network=Network() if plain else _network(),
        source=f"/repos/{system.family.value}/{system.version}",
        repositories=(Repository("extra", "/repos/extra", "stable" if apt else "", ("main",) if apt else ()),),
        packages=("vim",),
        post_script="echo installed\n",
        operation="os-install",
        kernel_arguments=("console=ttyS0,115200",),
    )


def _network() -> Network:
    return Network(
        (
            Interface("eth0", mac="52:54:00:12:34:56"),
            Interface("eth1", mac="52:54:00:12:34:57"),
            Interface("bond0", addresses=("192.0.2.5/24",), gateway4="192.0.2.1", bond=Bond(("eth0", "eth1"))),
            Interface("bond0.7", addresses=("2001:db8::5/64",), gateway6="2001:db8::1", vlan=Vlan("bond0", 7)),
        ),
        nameservers=("192.0.2.53",),
    )
