"""cloud-config and autoinstall: held to cloud-init's own schema, and to what Ubuntu documents of its installer."""

from __future__ import annotations

import dataclasses
from typing import Any

import jsonschema
import pytest
import yaml

from control_plane.machines.answers.failures import InstallationInvalid
from control_plane.machines.answers.model import Firmware, Installation, Layout, Repository, Storage, System
from tests.control_plane.machines.answers.installations import (
    DEBIAN,
    KEY,
    ROCKY,
    SHA512,
    UBUNTU,
    every,
    installation,
    rendered,
    served,
)
from tests.engines import SKIPPED, EngineCannotRun
from tests.engines.cloud_init_schema import schema
from tests.engines.settings import engines_required

_TEXTS = {"type": "array", "items": {"type": "string"}}
# From the autoinstall reference and curtin's storage actions: what we write, and nothing that is not in them.
_ACTIONS = {
    "disk": {"path", "serial", "wwn", "match", "ptable", "wipe", "preserve", "grub_device"},
    "partition": {"device", "size", "flag", "wipe", "preserve", "grub_device"},
    "format": {"volume", "fstype", "label", "preserve"},
    "mount": {"device", "path"},
    "raid": {"name", "raidlevel", "devices", "preserve"},
    "lvm_volgroup": {"name", "devices", "preserve"},
    "lvm_partition": {"volgroup", "name", "size", "wipe", "preserve"},
}
_AUTOINSTALL = {
    "type": "object",
    "additionalProperties": False,
    "required": ["version", "storage", "network", "user-data", "late-commands"],
    "properties": {
        "version": {"const": 1},
        "locale": {"type": "string"},
        "keyboard": {
            "type": "object",
            "required": ["layout"],
            "additionalProperties": False,
            "properties": {"layout": {}},
        },
        "timezone": {"type": "string"},
        "network": {
            "type": "object",
            "additionalProperties": False,
            "required": ["version"],
            "properties": {"version": {"const": 2}, "ethernets": {}, "bonds": {}, "vlans": {}},
        },
        "apt": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "preserve_sources_list": {"type": "boolean"},
                "geoip": {"type": "boolean"},
                "primary": {"type": "array"},
                "security": {"type": "array"},
                "sources": {"type": "object"},
            },
        },
        "storage": {
            "oneOf": [
                {
                    "required": ["layout"],
                    "additionalProperties": False,
                    "properties": {"layout": {"required": ["name"]}},
                },
                {"required": ["config"], "additionalProperties": False, "properties": {"config": {}, "swap": {}}},
            ]
        },
        "ssh": {
            "additionalProperties": False,
            "properties": {"install-server": {"type": "boolean"}, "allow-pw": {"type": "boolean"}},
        },
        "updates": {"enum": ["security", "all"]},
        "packages": _TEXTS,
        "late-commands": _TEXTS,
        "error-commands": _TEXTS,
        "shutdown": {"enum": ["reboot", "poweroff"]},
        "user-data": {"type": "object"},
    },
}


@pytest.fixture(scope="module")
def cloud_config() -> jsonschema.protocols.Validator:
    try:
        found = schema()
    except EngineCannotRun as reason:
        if engines_required():
            raise
        pytest.skip(f"{SKIPPED}answers: {reason}")
    return jsonschema.Draft4Validator(found)


def loaded(it: Installation, name: str = "user-data", *, image: bool = False) -> Any:
    text = served(it, name, image=image)
    assert name != "user-data" or text.startswith("#cloud-config\n")
    # libyaml's loader is safe as well, and ten times as fast.
    return yaml.load(text, Loader=yaml.CSafeLoader)


def network_is_sound(network: dict[str, Any], it: Installation) -> None:
    wanted = {one.name for one in it.network.interfaces} or {"every"}
    made = {name for kind in ("ethernets", "bonds", "vlans") for name in network.get(kind, {})}
    assert made == wanted
    for name, bond in network.get("bonds", {}).items():
        assert set(bond["interfaces"]) <= set(network["ethernets"]), name
    for vlan in network.get("vlans", {}).values():
        assert vlan["link"] in made


def test_autoinstall_is_what_its_reference_says(cloud_config: jsonschema.protocols.Validator) -> None:
    for it in every(UBUNTU[1:2]):
        document = loaded(it)
        assert set(document) == {"autoinstall"}
        jsonschema.validate(document["autoinstall"], _AUTOINSTALL)
        network_is_sound(document["autoinstall"]["network"], it)
    cloud_config.validate(document)
    cloud_config.validate(document["autoinstall"]["user-data"])


@pytest.mark.parametrize("system", UBUNTU, ids=lambda system: system.version)
def test_each_release_gets_the_same_shape(system: System) -> None:
    jsonschema.validate(loaded(installation(system, "lvm-own", "both"))["autoinstall"], _AUTOINSTALL)


def test_each_storage_action_names_what_is_there() -> None:
    for it in every(UBUNTU[1:2]):
        storage = loaded(it)["autoinstall"]["storage"]
        known: set[str] = set()
        last_of: dict[str, dict[str, Any]] = {}
        for action in storage.get("config", []):
            kind, name = action["type"], action["id"]
            assert set(action) - {"type", "id"} <= _ACTIONS[kind]
            named = [action.get(key) for key in ("device", "volume", "volgroup")] + action.get("devices", [])
            assert {one for one in named if one} <= known
            assert name not in known
            known.add(name)
            if kind in ("partition", "lvm_partition"):
                parent = action.get("device") or action["volgroup"]
                assert last_of.get(parent, {}).get("size") != -1, "what takes the rest is the last"
                last_of[parent] = action


@pytest.mark.parametrize("firmware", list(Firmware))
def test_both_disks_of_a_mirror_can_be_booted(firmware: Firmware) -> None:
    it = dataclasses.replace(installation(UBUNTU[2], "raid1"), firmware=firmware)
    actions = loaded(it)["autoinstall"]["storage"]["config"]
    devices = [one for one in actions if one.get("grub_device")]
    assert len(devices) == 2
    assert {one["type"] for one in devices} == ({"disk"} if firmware is Firmware.BIOS else {"partition"})
    assert [one["path"] for one in actions if one["type"] == "mount"].count("/boot/efi") == (firmware is Firmware.UEFI)


def test_seeds_of_images_are_cloud_inits(cloud_config: jsonschema.protocols.Validator) -> None:
    for system in (*DEBIAN, *ROCKY, *UBUNTU):
        cloud_config.validate(loaded(installation(system, kernel_arguments=()), image=True))
        for network in ("dhcp", "both", "bond"):
            it = installation(system, network=network, kernel_arguments=())
            network_is_sound(loaded(it, "network-config", image=True), it)
        assert [one.name for one in rendered(it, image=True).documents] == ["user-data", "meta-data", "network-config"]


def test_accounts_reach_the_image() -> None:
    it = installation(ROCKY[1], kernel_arguments=(), root_password_hash=SHA512)
    root, ops, robot, viewer = loaded(it, image=True)["users"]
    assert root == {"name": "root", "lock_passwd": False, "hashed_passwd": SHA512}
    assert (ops["gecos"], ops["hashed_passwd"], ops["groups"]) == (it.users[0].full_name, SHA512, ["wheel"])
    assert "sudo" not in ops
    assert (robot["lock_passwd"], robot["sudo"], robot["ssh_authorized_keys"]) == (
        True,
        "ALL=(ALL) NOPASSWD:ALL",
        [KEY],
    )
    assert viewer == {"name": "viewer", "shell": "/bin/bash", "lock_passwd": True}


def test_the_post_script_of_an_image_runs_once_at_its_first_boot() -> None:
    script = "#!/bin/sh\n\techo 'tab and: colon' # not a comment\n\n%include /x\n"
    document = loaded(installation(DEBIAN[1], kernel_arguments=(), post_script=script), image=True)
    assert document["write_files"][0]["content"] == script
    assert document["runcmd"] == [["/bin/sh", document["write_files"][0]["path"]]]


def test_repositories_are_those_of_the_regional() -> None:
    ours = Repository("ours", "/repos/ours", "stable", ("main", "extra"))
    it = installation(UBUNTU[1], repositories=(ours,), kernel_arguments=())
    source = "deb http://192.0.2.1:8081/repos/ours stable main extra"
    assert loaded(it)["autoinstall"]["apt"]["sources"]["ours.list"] == {"source": source}
    assert loaded(it)["autoinstall"]["apt"]["primary"][0]["uri"] == "http://192.0.2.1:8081/repos/ubuntu/22.04"
    assert loaded(it, image=True)["apt"]["sources"]["ours.list"] == {"source": source}
    rpm = installation(ROCKY[0], repositories=(Repository("ours", "/repos/ours"),), kernel_arguments=())
    assert loaded(rpm, image=True)["yum_repos"]["ours"]["baseurl"] == "http://192.0.2.1:8081/repos/ours"


def test_an_image_keeps_its_own_layout_and_kernel() -> None:
    plain = Storage(Layout.PLAIN, Storage().disks)
    with pytest.raises(InstallationInvalid, match=r"kernel_arguments.*storage\.layout"):
        served(dataclasses.replace(installation(DEBIAN[1]), storage=plain), "user-data", image=True)


@pytest.mark.parametrize("system", UBUNTU, ids=lambda system: system.version)
def test_the_installer_finds_its_seed(system: System) -> None:
    answers = rendered(installation(system))
    assert [one.name for one in answers.documents] == ["user-data", "meta-data", "vendor-data", "finish.sh"]
    [seed] = [one for one in answers.boot_arguments if one.startswith("ds=nocloud-net;s=")]
    assert seed.endswith("/")
