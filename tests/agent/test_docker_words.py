"""What Docker says of containers, and what it is asked for, without a Docker."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import ContainerSpec, ContainerState, HealthCheck, Mount, PortMapping
from agent.runtimes.docker_adoption import chosen, stranger_of, taken_over_before
from agent.runtimes.docker_shapes import sample_of
from agent.runtimes.docker_streams import split_stamp
from agent.runtimes.docker_succession import succession
from agent.runtimes.orders import LABEL_ADOPT, LABEL_ADOPTED, Sample

ID = "c0ffee" + "0" * 58
NAMELESS = "ab" * 32
IMAGE: dict[str, Any] = {
    "RepoDigests": ["127.0.0.1:5000/acme/web@sha256:" + "1" * 64],
    "Config": {
        "Env": ["PATH=/bin", "LANG=C"],
        "Cmd": ["serve"],
        "Entrypoint": ["/init"],
        "Labels": {"maintainer": "acme"},
        "WorkingDir": "/srv",
        "User": "web",
    },
}
CONTAINER: dict[str, Any] = {
    "Id": ID,
    "Name": "/web",
    "Config": {
        "Hostname": ID[:12],
        "Env": ["COLOUR=red", "PATH=/bin", "LANG=C"],
        "Cmd": ["serve"],
        "Entrypoint": ["/init"],
        "Labels": {"maintainer": "acme", "com.docker.compose.config-hash": "abc", LABEL_ADOPT: "acme/web"},
        "WorkingDir": "/srv",
        "User": "web",
        "StopSignal": "SIGINT",
        "Image": "web:old",
    },
    "HostConfig": {
        "NetworkMode": "default",
        "Memory": 64 << 20,
        "NanoCpus": 500_000_000,
        "CapAdd": ["NET_ADMIN"],
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 4},
        "AutoRemove": True,
        "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
        "LogConfig": {"Type": "json-file", "Config": {}},
        "IpcMode": "private",
        "ShmSize": 64 << 20,
        "Runtime": "runc",
    },
    "Mounts": [
        {"Type": "volume", "Name": "data", "Destination": "/data", "RW": True},
        {"Type": "volume", "Name": NAMELESS, "Destination": "/nameless", "RW": True},
        {"Type": "bind", "Source": "/srv/web", "Destination": "/web", "RW": False, "Propagation": "rprivate"},
    ],
    "NetworkSettings": {
        "Networks": {
            "bridge": {"Aliases": [ID[:12]], "IPAddress": "172.17.0.2", "IPAMConfig": None},
            "front": {
                "Aliases": [ID[:12], "web"],
                "IPAMConfig": {"IPv4Address": "10.0.0.9"},
                "IPAddress": "10.0.0.9",
                "DriverOpts": {"a": "b"},
            },
        }
    },
}


def changed(document: dict[str, Any], **parts: dict[str, Any]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(document))
    for part, values in parts.items():
        copy[part] = copy.get(part, {}) | values
    return copy


def test_a_stranger_is_what_a_person_chose_and_not_what_its_image_has() -> None:
    found = stranger_of(CONTAINER, IMAGE, "", ContainerState.RUNNING)
    assert found.name == "web"
    assert [str(one) for one in found.manifests] == ["sha256:" + "1" * 64]
    assert found.spec == ContainerSpec(
        environment={"COLOUR": "red"},
        labels={"com.docker.compose.config-hash": "abc"},
        ports=(PortMapping("0.0.0.0", 8080, 80, "tcp"),),
        mounts=(Mount("data", "/data"), Mount("", "/web", True, "/srv/web")),
        cpus=0.5,
        memory_bytes=64 << 20,
    )
    assert found.beyond == ("AutoRemove", "CapAdd", "Network front", "RestartPolicy", "Volume /nameless")


def test_what_differs_from_the_image_is_chosen_and_a_command_goes_with_its_entrypoint() -> None:
    spec = stranger_of(
        changed(
            CONTAINER,
            Config={
                "Entrypoint": ["/other"],
                "Hostname": "own-name",
                "User": "root",
                "WorkingDir": "/",
                "Healthcheck": {"Test": ["CMD-SHELL", "curl localhost"], "Interval": 5_000_000_000, "Retries": 2},
            },
            HostConfig={"NetworkMode": "front", "CpuQuota": 150_000, "NanoCpus": 0, "Privileged": True},
        ),
        IMAGE,
        "",
        ContainerState.RUNNING,
    ).spec
    assert (spec.entrypoint, spec.command) == (("/other",), ("serve",))
    assert (spec.hostname, spec.user, spec.working_dir) == ("own-name", "root", "/")
    assert (spec.network, spec.cpus, spec.privileged) == ("front", 1.5, True)
    assert spec.health_check == HealthCheck(("/bin/sh", "-c", "curl localhost"), interval_seconds=5, retries=2)


@pytest.mark.parametrize(
    ("mode", "usual", "said"),
    [
        ("default", "", ""),
        ("bridge", "", ""),
        ("bridge", "host", "bridge"),
        ("host", "host", ""),
        ("none", "", "none"),
        ("front", "", "front"),
    ],
)
def test_the_usual_network_is_no_choice(mode: str, usual: str, said: str) -> None:
    container = changed(CONTAINER, HostConfig={"NetworkMode": mode})
    assert stranger_of(container, IMAGE, usual, ContainerState.RUNNING).spec.network == said


def test_without_its_image_everything_is_chosen_and_nothing_breaks() -> None:
    found = stranger_of(CONTAINER, {}, "", ContainerState.EXITED)
    assert found.manifests == frozenset()
    assert found.spec.command == ("serve",)


def made(spec: ContainerSpec) -> dict[str, Any]:
    """What our order alone asks for."""
    return {
        "Image": "web@new",
        "Env": [f"{key}={value}" for key, value in spec.environment.items()],
        "Labels": {"longshore.host": "h", **spec.labels},
        "HostConfig": {
            "RestartPolicy": {"Name": "unless-stopped"},
            "Mounts": [{"Target": one.target, "Source": one.volume, "Type": "volume"} for one in spec.mounts],
            **({"Memory": spec.memory_bytes} if spec.memory_bytes else {}),
            **({"NetworkMode": spec.network} if spec.network else {}),
        },
    }


def test_a_successor_keeps_what_the_specification_leaves_open() -> None:
    spec = ContainerSpec(environment={"NEW": "1"}, memory_bytes=128 << 20, mounts=(Mount("fresh", "/data"),))
    document, further = succession(made(spec), spec, CONTAINER, IMAGE)
    host = document["HostConfig"]
    assert sorted(document["Env"]) == ["COLOUR=red", "NEW=1"]
    assert document["Image"] == "web@new"
    assert document["Labels"]["com.docker.compose.config-hash"] == "abc"
    assert LABEL_ADOPT not in document["Labels"]
    assert "Hostname" not in document, "the engine made it"
    assert document["StopSignal"] == "SIGINT"
    assert (host["Memory"], host["NanoCpus"], host["CapAdd"]) == (128 << 20, 500_000_000, ["NET_ADMIN"])
    assert host["RestartPolicy"]["Name"] == "on-failure"
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}
    assert "AutoRemove" not in host
    assert {one["Target"]: one["Source"] for one in host["Mounts"]} == {
        "/data": "fresh",
        "/nameless": NAMELESS,
        "/web": "/srv/web",
    }
    assert document["NetworkingConfig"] == {"EndpointsConfig": {"bridge": {}}}, "no observed address, no alias"
    assert further == {
        "front": {"IPAMConfig": {"IPv4Address": "10.0.0.9"}, "DriverOpts": {"a": "b"}, "Aliases": ["web"]}
    }


def test_a_network_that_is_named_replaces_those_that_were() -> None:
    spec = ContainerSpec(network="none")
    document, further = succession(made(spec), spec, CONTAINER, IMAGE)
    assert document["HostConfig"]["NetworkMode"] == "none"
    assert further == {}
    assert "NetworkingConfig" not in document


@pytest.mark.parametrize("mode", ["host", "container:abc"])
def test_who_shares_a_network_has_neither_host_name_nor_endpoints(mode: str) -> None:
    before = changed(CONTAINER, HostConfig={"NetworkMode": mode}, Config={"Hostname": "the-host"})
    document, further = succession(made(ContainerSpec()), ContainerSpec(), before, IMAGE)
    assert "Hostname" not in document
    assert "NetworkingConfig" not in document
    assert further == {}


def inspection_of(document: dict[str, Any], further: dict[str, Any]) -> dict[str, Any]:
    """As the engine would show a container made of this."""
    host = document["HostConfig"]
    endpoints = {**document.get("NetworkingConfig", {}).get("EndpointsConfig", {}), **further}
    return {
        "Id": "d" * 64,
        "Name": "/successor",
        "Config": {key: value for key, value in document.items() if key not in ("HostConfig", "NetworkingConfig")},
        "HostConfig": {"NetworkMode": "default", **host},
        "Mounts": [
            {
                "Type": one["Type"],
                "Destination": one["Target"],
                "RW": not one.get("ReadOnly", False),
                "Propagation": one.get("BindOptions", {}).get("Propagation", ""),
                ("Name" if one["Type"] == "volume" else "Source"): one["Source"],
            }
            for one in host["Mounts"]
        ],
        "NetworkSettings": {"Networks": endpoints},
    }


def test_what_we_named_once_and_name_no_longer_goes_while_what_was_theirs_stays() -> None:
    first = ContainerSpec(environment={"OURS": "1"}, labels={"ours": "1"}, mounts=(Mount("ours", "/ours"),))
    before = inspection_of(*succession(made(first), first, CONTAINER, IMAGE))
    document, further = succession(made(ContainerSpec()), ContainerSpec(), before, {})
    assert document["Env"] == ["COLOUR=red"]
    assert "ours" not in document["Labels"]
    assert "/ours" not in {one["Target"] for one in document["HostConfig"]["Mounts"]}
    assert {one["Target"] for one in document["HostConfig"]["Mounts"]} == {"/data", "/nameless", "/web"}
    assert document["HostConfig"]["CapAdd"] == ["NET_ADMIN"]
    assert document["StopSignal"] == "SIGINT"
    assert further["front"]["Aliases"] == ["web"]


@given(st.integers(1, 5))
def test_however_often_it_is_succeeded_nothing_of_theirs_is_lost(times: int) -> None:
    before, kept = CONTAINER, None
    for _ in range(times):
        document, further = succession(made(ContainerSpec()), ContainerSpec(), before, IMAGE)
        seen = (sorted(document["Env"]), document["HostConfig"], further, document["Labels"][LABEL_ADOPTED])
        assert kept in (None, seen)
        kept, before = seen, inspection_of(document, further)


def test_a_note_that_is_none_takes_nothing_over() -> None:
    for note in ("not json", "[]", "7"):
        assert taken_over_before(changed(CONTAINER, Config={"Labels": {LABEL_ADOPTED: note}})) == {}
    assert taken_over_before(CONTAINER) is None


def test_an_image_default_is_not_kept_against_a_new_image() -> None:
    config = CONTAINER["Config"]
    assert "Cmd" not in chosen(config, IMAGE)
    assert "WorkingDir" not in chosen(config, IMAGE)
    assert chosen(config, IMAGE)["Env"] == ["COLOUR=red"]


def test_a_sample_counts_memory_without_what_the_kernel_would_give_back() -> None:
    stats: dict[str, Any] = {
        "cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000}},
        "memory_stats": {"usage": 100, "stats": {"total_inactive_file": 30, "inactive_file": 1}},
        "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
        "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 5}, {"op": "write", "value": 6}]},
        "pids_stats": {"current": 3},
    }
    assert sample_of(stats, 7) == Sample(2.5, 70, 7, 11, 22, 5, 6, 3)
    assert sample_of({"memory_stats": {}, "blkio_stats": {"io_service_bytes_recursive": None}}, 0) == Sample()
    assert sample_of({"memory_stats": {"usage": 10, "stats": {"inactive_file": 4}}}, 0).memory_bytes == 6


@pytest.mark.parametrize(
    ("line", "stamp", "rest"),
    [
        (b"2026-01-01T00:00:00.000000001Z hello\n", 1767225600_000000001, b"hello\n"),
        (b"2026-01-01T00:00:00Z x", 1767225600_000000000, b"x"),
        (b"2026-01-01T01:00:00.5+01:00 x", 1767225600_500000000, b"x"),
        (b"no time at all\n", 0, b"no time at all\n"),
        (b"", 0, b""),
    ],
)
def test_the_time_of_a_log_line_is_kept_to_the_nanosecond(line: bytes, stamp: int, rest: bytes) -> None:
    assert split_stamp(line) == (stamp, rest)
