"""Preseed as debconf reads it, and the pieces that debconf cannot judge."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess

import pytest

from control_plane.machines.answers.failures import InstallationInvalid
from control_plane.machines.answers.model import Ending, Firmware, Layout, Partition, Repository, Storage, System
from tests.control_plane.machines.answers.installations import DEBIAN, STORAGES, every, installation, served

_KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZQ==\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n"


def answers(text: str) -> dict[str, str]:
    """Question to value; a value that is not there is empty."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            _, question, _, *value = line.split(" ", 3)
            assert question not in found
            found[question] = value[0] if value else ""
    return found


@pytest.mark.skipif(shutil.which("debconf-set-selections") is None, reason="debconf is Debian's")
def test_debconf_takes_every_layout_and_network() -> None:
    texts = {served(it, "preseed.cfg") for it in every(DEBIAN)}
    checked = subprocess.run(
        ["debconf-set-selections", "--checkonly"], input="\n".join(texts), capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_mirror_is_the_regionals() -> None:
    found = answers(served(installation(DEBIAN[1]), "preseed.cfg"))
    assert found["mirror/protocol"] == "http"
    assert found["mirror/http/hostname"] == "192.0.2.1:8081"
    assert found["mirror/http/directory"] == "/repos/debian/12"
    assert found["mirror/suite"] == "bookworm"
    assert found["apt-setup/services-select"] == ""


def test_without_a_source_it_is_debians() -> None:
    found = answers(served(installation(DEBIAN[0], source=""), "preseed.cfg"))
    assert (found["mirror/http/hostname"], found["mirror/suite"]) == ("deb.debian.org", "bullseye")
    assert found["apt-setup/services-select"] == "security, updates"


def test_root_is_locked_unless_it_has_a_hash() -> None:
    assert (
        answers(served(installation(DEBIAN[1], root_password_hash=None), "preseed.cfg"))["passwd/root-password-crypted"]
        == "!"
    )


def test_a_recipe_ends_every_partition() -> None:
    for name in ("plain-own", "lvm-own", "raid1"):
        for firmware in Firmware:
            it = dataclasses.replace(installation(DEBIAN[1], name), firmware=firmware)
            recipe = answers(served(it, "preseed.cfg"))["partman-auto/expert_recipe"]
            name_of, _, entries = recipe.partition(" :: ")
            assert name_of == "longshore"
            parts = entries.split(" . ")
            assert parts[-1].endswith(" .")
            for entry in parts:
                least, priority, most = map(int, entry.split()[:3])
                assert most == -1 or least <= priority <= most
            assert sum(entry.split()[2] == "-1" for entry in parts) == (2 if name == "lvm-own" else 1)
            assert ("method{ efi }" in recipe) == (firmware is Firmware.UEFI)


def test_partman_is_never_left_to_take_the_only_disk() -> None:
    """debian-installer takes a single disk unasked where no other is named."""
    found = answers(served(installation(DEBIAN[1], "plain"), "preseed.cfg"))
    assert found["partman-auto/disk"] == "/dev/longshore-not-chosen"
    assert "disks.sh" in found["partman/early_command"]


def test_arrays_are_made_of_the_same_partition_of_both_disks() -> None:
    script = served(installation(DEBIAN[1], "raid1"), "disks.sh")
    arrays = re.findall(r"1 2 0 (\S+) (\S+) \$\(part \$disk0 (\d)\)#\$\(part \$disk1 (\d)\) \.", script)
    assert arrays == [("ext4", "/boot", "2", "2"), ("swap", "-", "3", "3"), ("ext4", "/", "4", "4")]


def test_labels_on_arrays_are_refused_because_the_installer_drops_them() -> None:
    partitions = (Partition("/", 8192, label="root"),)
    storage = Storage(Layout.RAID1, STORAGES["raid1"].disks, partitions)
    with pytest.raises(InstallationInvalid, match="cannot label"):
        served(dataclasses.replace(installation(DEBIAN[1]), storage=storage), "preseed.cfg")


def test_a_repository_with_a_key_has_it_served() -> None:
    it = installation(DEBIAN[1], repositories=(Repository("ours", "/repos/ours", "stable", ("main",), _KEY),))
    found = answers(served(it, "preseed.cfg"))
    assert found["apt-setup/local0/repository"] == "http://192.0.2.1:8081/repos/ours stable main"
    assert found["apt-setup/local0/key"].endswith("/repository-0.asc")
    assert served(it, "repository-0.asc") == _KEY


@pytest.mark.parametrize("system", DEBIAN, ids=lambda system: system.version)
def test_bonds_and_vlans_bring_their_packages(system: System) -> None:
    packages = answers(served(installation(system, network="bond"), "preseed.cfg"))["pkgsel/include"].split()
    assert {"ifenslave", "vlan", "sudo", "openssh-server", "vim"} <= set(packages)


def test_a_machine_can_be_left_off() -> None:
    assert (
        answers(served(installation(DEBIAN[1], ending=Ending.POWER_OFF), "preseed.cfg"))[
            "debian-installer/exit/poweroff"
        ]
        == "true"
    )
