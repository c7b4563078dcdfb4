"""Kickstart as its own parser reads it (pykickstart, for the release that is installed)."""

from __future__ import annotations

import dataclasses
import warnings

import pytest
from pykickstart.parser import KickstartParser
from pykickstart.version import makeVersion

from control_plane.machines.answers.failures import InstallationInvalid
from control_plane.machines.answers.model import Disk, Ending, Installation, Layout, Network, Storage, System
from tests.control_plane.machines.answers.installations import (
    CENTOS,
    NETWORKS,
    ROCKY,
    SHA512,
    YESCRYPT,
    every,
    installation,
    served,
)


def parsed(it: Installation) -> object:
    """The handler with everything that the installer would know; what %pre includes is put in its place."""
    text = served(it, "ks.cfg")
    if "%include /tmp/longshore-storage.ks" in text:
        body = text.split("longshore-storage.ks <<'")[1].split("'\n", 1)[1].split("\nend-")[0]
        text = text.replace(
            "%include /tmp/longshore-storage.ks", body.replace("@disk0@", "vda").replace("@disk1@", "vdb")
        )
    handler = makeVersion(f"RHEL{it.system.version}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Each disk of a mirror has one, which the parser takes for a mistake.
        warnings.filterwarnings("ignore", "A partition with the mountpoint biosboot")
        KickstartParser(handler, missingIncludeIsFatal=True, errorsAreFatal=True).readKickstartFromString(text)
    return handler


@pytest.mark.parametrize("system", [*ROCKY, CENTOS[0]], ids=lambda system: f"{system.family}-{system.version}")
def test_every_layout_and_network_is_understood_without_a_warning(system: System) -> None:
    # Releases before 9 take every other one: each parser is made anew, which is what takes long.
    for it in list(every([system]))[:: 1 if system.version == "9" else 2]:
        handler = parsed(it)
        assert handler.bootloader.appendLine == "console=ttyS0,115200"
        assert [user.name for user in handler.user.userList] == ["ops", "robot", "viewer"]


def test_a_stream_reads_what_its_release_will() -> None:
    assert parsed(installation(CENTOS[1], "raid1", "bond")).url.url.endswith("/repos/centos-stream/9")


def test_users_are_who_they_were_meant_to_be() -> None:
    it = installation(ROCKY[1], root_password_hash=None)
    handler = parsed(it)
    ops, robot, viewer = handler.user.userList
    assert (ops.gecos, ops.password, ops.isCrypted, ops.groups) == (it.users[0].full_name, SHA512, True, ["wheel"])
    assert (robot.password, robot.lock, robot.groups) == ("", True, ["wheel"])
    assert (viewer.lock, viewer.groups) == (True, [])
    assert handler.rootpw.lock


def test_only_the_chosen_disks_are_cleared() -> None:
    handler = parsed(installation(ROCKY[1], "raid1"))
    disks = ["sda", "disk/by-id/nvme-eui.0025"]
    assert handler.clearpart.drives == disks
    assert handler.ignoredisk.onlyuse == disks
    raids = {array.mountpoint: array for array in handler.raid.raidList}
    assert set(raids) == {"/", "/boot", "swap"}
    assert all(array.level == "RAID1" and len(array.members) == 2 for array in raids.values())
    placed = {name: part.disk for part in handler.partition.partitions for name in [part.mountpoint]}
    assert {placed[member] for member in raids["/"].members} == set(disks)


def test_what_grows_grows_and_the_rest_does_not() -> None:
    handler = parsed(installation(ROCKY[0], "lvm-own"))
    volumes = {volume.mountpoint: volume for volume in handler.logvol.lvList}
    assert {mount for mount, volume in volumes.items() if volume.grow} == {"/"}
    assert volumes["/var/log"].size == 4096
    assert [part.mountpoint for part in handler.partition.partitions] == ["/boot", "pv.1"]


def test_a_bond_and_its_vlan_keep_their_places() -> None:
    handler = parsed(installation(ROCKY[1], network="bond"))
    vlan, name = handler.network.network
    assert (vlan.device, vlan.vlanid, vlan.interfacename, vlan.ip) == ("bond0", "7", "bond0.7", "192.0.2.5")
    assert (vlan.bondslaves, vlan.bondopts) == ("eth0,eth1", "mode=802.3ad,miimon=100")
    assert name.hostname == "node1.example.org"


def test_a_card_is_named_by_its_address() -> None:
    card, _ = parsed(installation(ROCKY[1], network="both")).network.network
    assert (card.device, card.ip, card.netmask) == ("52:54:00:00:00:01", "192.0.2.5", "255.255.255.0")
    assert (card.ipv6, card.ipv6gateway) == ("2001:db8::5/64", "2001:db8::1")


def test_the_source_lies_at_the_regional() -> None:
    handler = parsed(installation(ROCKY[1]))
    assert handler.url.url == "http://192.0.2.1:8081/repos/rocky/9"
    assert handler.repo.repoList[0].baseurl == "http://192.0.2.1:8081/repos/extra"
    assert parsed(installation(ROCKY[1], source="https://mirror.example.org/rocky")).url.url.startswith(
        "https://mirror"
    )


@pytest.mark.parametrize("ending", list(Ending))
def test_the_machine_restarts_or_stays_off(ending: Ending) -> None:
    text = served(installation(ROCKY[1], ending=ending), "ks.cfg")
    assert f"\n{ending.value}\n" in text


def test_what_a_release_cannot_do_is_refused() -> None:
    with pytest.raises(InstallationInvalid, match="yescrypt"):
        served(installation(CENTOS[0], root_password_hash=YESCRYPT), "ks.cfg")
    assert served(installation(ROCKY[0], root_password_hash=YESCRYPT), "ks.cfg")
    searching = Network(NETWORKS["static4"].interfaces, (), ("example.org",))
    with pytest.raises(InstallationInvalid, match=r"network\.search"):
        served(_with_network(CENTOS[0], searching), "ks.cfg")
    assert "--ipv4-dns-search=example.org" in served(_with_network(ROCKY[1], searching), "ks.cfg")


def _with_network(system: System, network: Network) -> Installation:
    return dataclasses.replace(installation(system), network=network)


def test_a_disk_found_by_its_serial_is_named_in_the_machine() -> None:
    storage = Storage(Layout.PLAIN, (Disk(serial="S1"),))
    text = served(_with_storage(storage), "ks.cfg")
    assert "disk0=$(find_disk serial S1) || exit 1" in text
    assert "%pre --interpreter=/bin/sh --erroronfail" in text


def _with_storage(storage: Storage) -> Installation:
    return dataclasses.replace(installation(ROCKY[1]), storage=storage)
