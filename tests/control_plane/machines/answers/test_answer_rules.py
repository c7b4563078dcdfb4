"""What may not be installed is refused with every reason, and nothing of it is rendered."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from control_plane.machines.answers.failures import InstallationInvalid
from control_plane.machines.answers.model import (
    Bond,
    Disk,
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
from tests.control_plane.machines.answers.installations import DEBIAN, KEY, NONCE, ROCKY, SHA512, YESCRYPT, installation

_ROOT = Partition("/", 8192, grow=True)
_SDA = Disk("/dev/sda")


def problems(it: Installation) -> str:
    with pytest.raises(InstallationInvalid) as caught:
        render(it, nonce=NONCE)
    return "\n".join(map(str, caught.value.problems))


def changed(**fields: Any) -> Installation:
    return dataclasses.replace(installation(ROCKY[1]), **fields)


@pytest.mark.parametrize(
    "value",
    [
        "secret",
        "",
        "!",
        "*",
        "$1$salt$" + "a" * 22,
        "$2b$12$" + "a" * 53,
        "$5$salt$" + "a" * 43,
        "$6$salt$short",
        SHA512 + "x",
        SHA512 + "\n",
        SHA512.replace("b", "'", 1),
        SHA512[:-1] + ":",
        YESCRYPT[:-1],
    ],
)
def test_only_strong_hashes_are_passwords(value: str) -> None:
    assert "root_password_hash" in problems(changed(root_password_hash=value))
    assert "users[0].password_hash" in problems(changed(users=(User("ops", password_hash=value),)))


@pytest.mark.parametrize("value", [SHA512, YESCRYPT, "$6$salt$" + "./" * 43])
def test_strong_hashes_are_taken(value: str) -> None:
    assert render(changed(root_password_hash=value), nonce=NONCE)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-dss AAAAB3NzaC1kc3MAAACBAA==",
        KEY.replace("ssh-ed25519", "ssh-rsa", 1),
        f'command="id" {KEY}',
        f"{KEY}\nssh-ed25519 AAAA",
        f"{KEY}\u2028",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
def test_only_whole_public_keys_without_options_are_taken(key: str) -> None:
    assert "users[0].ssh_keys[0]" in problems(changed(users=(User("ops", ssh_keys=(key,)),)))


@pytest.mark.parametrize("name", ["root", "Ops", "1ops", "o ps", "-ops", "ops:", "o" * 32, ""])
def test_names_of_users_are_plain(name: str) -> None:
    assert "users[0].name" in problems(changed(users=(User(name),)))


def test_encryption_is_refused_because_its_key_would_lie_beside_it() -> None:
    assert "beside the lock" in problems(changed(storage=Storage(encrypted=True)))


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        (Storage(disks=()), "takes exactly 1"),
        (Storage(Layout.RAID1, (_SDA,)), "takes exactly 2"),
        (Storage(Layout.RAID1, (_SDA, _SDA)), "there twice"),
        (Storage(Layout.RAID1, (_SDA, Disk())), "name both disks"),
        (Storage(disks=(Disk("/dev/../etc/passwd"),)), "below /dev"),
        (Storage(disks=(Disk("sda"),)), "below /dev"),
        (Storage(disks=(Disk(serial="a b"),)), "disks[0].serial"),
        (Storage(disks=(Disk(wwn="x"),)), "disks[0].wwn"),
        (Storage(partitions=(_ROOT,)), "automatic layout takes none"),
        (Storage(Layout.PLAIN, (_SDA,), (Partition("/srv", 8192),)), "there is no /"),
        (Storage(Layout.PLAIN, (_SDA,), (_ROOT, _ROOT)), "each place once"),
        (Storage(Layout.PLAIN, (_SDA,), (_ROOT, Partition("/srv", 512, grow=True))), "only one may grow"),
        (Storage(Layout.PLAIN, (_SDA,), (Partition("/", 100),)), "2048 to"),
        (Storage(Layout.PLAIN, (_SDA,), (_ROOT, Partition("/srv", 1))), "300 to"),
        (Storage(Layout.PLAIN, (_SDA,), (_ROOT, Partition("/boot/efi", 512))), "made by itself"),
        (Storage(Layout.PLAIN, (_SDA,), (_ROOT, Partition("/a/../b", 512))), "absolute path"),
        (Storage(Layout.PLAIN, (_SDA,), (_ROOT, Partition("/srv", 512, label="x y"))), "label"),
        (Storage(Layout.PLAIN, (_SDA,), (_ROOT, Partition("swap", 512, label="swap"))), "label"),
        (Storage(volume_group="a b"), "volume_group"),
    ],
)
def test_layouts_that_cannot_be_are_refused(storage: Storage, words: str) -> None:
    assert words in problems(changed(storage=storage))


_ETH0 = Interface("eth0", dhcp4=True)


@pytest.mark.parametrize(
    ("interfaces", "words"),
    [
        ((Interface("eth0"),), "none of them gets an address"),
        ((_ETH0, _ETH0), "each name once"),
        ((Interface("eth 0", dhcp4=True),), "name"),
        ((Interface("e" * 16, dhcp4=True),), "at most 15"),
        ((Interface("eth0", "52:54:00:12:34", dhcp4=True),), "mac"),
        ((Interface("eth0", dhcp4=True, addresses=("192.0.2.5/24",)),), "from DHCP already"),
        ((Interface("eth0", addresses=("192.0.2.5",)),), "with its prefix"),
        ((Interface("eth0", addresses=("192.0.2.5/255.255.255.0",)),), "with its prefix"),
        ((Interface("eth0", addresses=("fe80::1%eth0/64",)),), "with its prefix"),
        ((Interface("eth0", addresses=("192.0.2.5/24",), gateway4="198.51.100.1"),), "none of the networks"),
        ((Interface("eth0", addresses=("192.0.2.5/24",), gateway4="2001:db8::1"),), "an IPv4 address"),
        ((Interface("eth0", dhcp4=True, mtu=100),), "1280 to 9216"),
        ((_ETH0, Interface("bond0", dhcp4=True, bond=Bond(("eth0",)))), "addresses of its own"),
        ((Interface("bond0", dhcp4=True, bond=Bond(("eth9",))),), "among the interfaces"),
        ((Interface("bond0", dhcp4=True, bond=Bond(())),), "1 to 8"),
        ((_ETH0, Interface("eth0.5000", dhcp4=True, vlan=Vlan("eth0", 5000))), "1 to 4094"),
        ((Interface("eth0.7", dhcp4=True, vlan=Vlan("eth0.7", 7)),), "a network card or bond"),
        ((_ETH0, Interface("x", dhcp4=True, bond=Bond(("eth0",)), vlan=Vlan("eth0", 7))), "not both"),
    ],
)
def test_networks_that_cannot_be_are_refused(interfaces: tuple[Interface, ...], words: str) -> None:
    assert words in problems(changed(network=Network(interfaces)))


def test_all_problems_are_told_at_once() -> None:
    told = problems(changed(hostname="a b", locale="x y", timezone="Mars/Base", mac="x", packages=("a b",)))
    for field in ("hostname", "locale", "timezone", "mac", "packages[0]"):
        assert f"{field}: " in told


def test_names_of_servers_and_sources_are_held_to_their_shape() -> None:
    told = problems(changed(ntp_servers=("a b",), source="ftp://x/", kernel_arguments=("a;b",), domain="-x"))
    for field in ("ntp_servers[0]", "source", "kernel_arguments[0]", "domain"):
        assert f"{field}: " in told


@pytest.mark.parametrize("source", ["/repos/../../etc", "/repos/a b", "http://x/'", "http://a@b/", "repos/x", "//"])
def test_sources_do_not_climb(source: str) -> None:
    if source == "//":
        assert render(changed(source="//"), nonce=NONCE)
        return
    assert "source" in problems(changed(source=source))


def test_numbers_of_things_are_bounded() -> None:
    assert "users" in problems(changed(users=tuple(User(f"u{n}") for n in range(65))))
    assert "packages" in problems(changed(packages=("vim",) * 513))
    assert "there twice" in problems(changed(users=(User("ops"), User("ops"))))


@pytest.mark.parametrize("version", ["", "4", "9.9", "bookworm"])
def test_versions_are_those_that_are_tested(version: str) -> None:
    it = dataclasses.replace(installation(DEBIAN[1]), system=System(DEBIAN[1].family, version))
    assert "system.version" in problems(it)
