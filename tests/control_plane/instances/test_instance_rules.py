from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.instances.model import AdoptionWish, HealthCheck, InstanceSpec, Mount, PortMapping
from control_plane.instances.records import spec_of, spec_record
from control_plane.instances.rules import (
    InstanceNameInvalid,
    SpecInvalid,
    check_name,
    check_selection,
    check_spec,
    reaches_host,
)
from tests.control_plane.instances.parts import run_request


@pytest.mark.parametrize("name", ["a", "web", "web-1", "web_1.canary", "0", "a" * 63])
def test_names_that_engines_take(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-web", "web-", ".web", "Web", "web/1", "web 1", "../../etc/passwd", "a" * 64, "wéb", "web\n"]
)
def test_names_that_would_break_something_are_refused(name: str) -> None:
    with pytest.raises(InstanceNameInvalid):
        check_name(name)


def test_a_full_specification_passes() -> None:
    check_spec(
        InstanceSpec(
            command=("serve", "--fast"),
            entrypoint=("/bin/sh", "-c"),
            environment={"PATH": "/bin", "my.setting-1": ""},
            labels={"team": "blue"},
            ports=(PortMapping(80, 8080, "0.0.0.0"), PortMapping(80, 8080, "::1"), PortMapping(53, 53, "", "udp")),
            mounts=(Mount("data", "/var/lib/data"), Mount("logs.1", "/var/log", read_only=True)),
            cpus=1.5,
            memory_bytes=64 << 20,
            health_check=HealthCheck(("true",)),
            stop_grace_seconds=30,
            cpu_set="0-2,5,7-7",
            disk_bytes=1 << 30,
            network="bridge",
            hostname="web-1.example",
            user="1000:www-data",
            working_dir="/srv",
            adopt=AdoptionWish(recreate=True),
        )
    )
    check_spec(InstanceSpec(mounts=(Mount("", "/data", host_path="/srv/data"),), network="host", privileged=True))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("command", ("a\0b",)),
        ("command", ("x" * (128 << 10),)),
        ("command", ("\ud800",)),
        ("command", tuple("x" * 257)),
        ("entrypoint", ("\0",)),
        ("environment", {"": "x"}),
        ("environment", {"A=B": "x"}),
        ("environment", {"1A": "x"}),
        ("environment", {"A": "\0"}),
        ("environment", {f"A{number}": "" for number in range(257)}),
        ("labels", {"": "x"}),
        ("labels", {"longshore.instance": "x"}),
        ("ports.container_port", (PortMapping(0),)),
        ("ports.container_port", (PortMapping(65536),)),
        ("ports.host_port", (PortMapping(80, -1),)),
        ("ports.host_port", (PortMapping(80, 8080), PortMapping(81, 8080, "127.0.0.1"))),
        ("ports.host_ip", (PortMapping(80, 8080, "localhost"),)),
        ("ports.host_ip", (PortMapping(80, 8080, "10.0.0.256"),)),
        ("ports.protocol", (PortMapping(80, protocol="sctp"),)),
        ("mounts.volume", (Mount("/etc", "/x"),)),
        ("mounts.volume", (Mount("../up", "/x"),)),
        ("mounts.volume", (Mount("", "/x"),)),
        ("mounts.target", (Mount("v", "relative"),)),
        ("mounts.target", (Mount("v", "/"),)),
        ("mounts.target", (Mount("v", "/a/../etc"),)),
        ("mounts.target", (Mount("v", "/a:rw"),)),
        ("mounts.target", (Mount("v", "/a"), Mount("w", "/a/"))),
        ("cpus", -1.0),
        ("cpus", float("nan")),
        ("cpus", float("inf")),
        ("memory_bytes", 1024),
        ("memory_bytes", -1),
        ("memory_bytes", 1 << 60),
        ("stop_grace_seconds", -1),
        ("stop_grace_seconds", 3601),
        ("health_check.test", HealthCheck(())),
        ("health_check.interval_seconds", HealthCheck(("true",), interval_seconds=0)),
        ("health_check.timeout_seconds", HealthCheck(("true",), timeout_seconds=float("nan"))),
        ("health_check.retries", HealthCheck(("true",), retries=0)),
        ("mounts.host_path", (Mount("v", "/x", host_path="/srv"),)),
        ("mounts.host_path", (Mount("", "/x", host_path="/"),)),
        ("mounts.host_path", (Mount("", "/x", host_path="/srv/../etc"),)),
        ("mounts.host_path", (Mount("", "/x", host_path="srv"),)),
        ("cpu_set", "0-"),
        ("cpu_set", "all"),
        ("cpu_set", "5-2"),
        ("cpu_set", "4096"),
        ("disk_bytes", -1),
        ("disk_bytes", 1000),
        ("disk_bytes", 1 << 60),
        ("network", "container:0123456789ab"),
        ("network", "-x"),
        ("hostname", "a_b"),
        ("hostname", "x" * 64),
        ("hostname", "-a"),
        ("user", "root; id"),
        ("user", "a:b:c"),
        ("working_dir", "srv"),
        ("working_dir", "/srv/.."),
        ("adopt.container", AdoptionWish("--all")),
    ],
)
def test_each_refusal_names_its_field(field: str, value: Any) -> None:
    spec = InstanceSpec(**{field.partition(".")[0]: value})
    with pytest.raises(SpecInvalid) as refusal:
        check_spec(spec)
    assert refusal.value.facts["field"] == field
    assert refusal.value.action


def test_exactly_one_way_of_naming_hosts_is_taken() -> None:
    check_selection(run_request("east/e1"))
    check_selection(run_request(idc="east"))
    check_selection(run_request(all_hosts=True))
    for wrong in (run_request(), run_request("east/e1", idc="east"), run_request("east/e1", all_hosts=True)):
        with pytest.raises(SpecInvalid):
            check_selection(wrong)
    with pytest.raises(SpecInvalid):
        check_selection(run_request(*(f"h{number}" for number in range(1001))))


def test_a_container_that_is_adopted_by_name_is_on_one_host() -> None:
    named = InstanceSpec(adopt=AdoptionWish("web"))
    check_selection(replace(run_request("east/e1"), spec=named))
    for wrong in (run_request("east/e1", "east/e2"), run_request(idc="east"), run_request(all_hosts=True)):
        with pytest.raises(SpecInvalid):
            check_selection(replace(wrong, spec=named))
        check_selection(replace(wrong, spec=InstanceSpec(adopt=AdoptionWish(recreate=True))))


def test_ports_go_with_no_network_that_publishes_none() -> None:
    for network in ("host", "none"):
        with pytest.raises(SpecInvalid):
            check_spec(InstanceSpec(network=network, ports=(PortMapping(80),)))


@pytest.mark.parametrize(
    ("spec", "reaches"),
    [
        (InstanceSpec(), False),
        (InstanceSpec(network="none", adopt=AdoptionWish(recreate=True), mounts=(Mount("v", "/x"),)), False),
        (InstanceSpec(privileged=True), True),
        (InstanceSpec(network="host"), True),
        (InstanceSpec(network="frontend"), True),
        (InstanceSpec(mounts=(Mount("", "/x", host_path="/srv"),)), True),
        (InstanceSpec(adopt=AdoptionWish("web")), True),
    ],
)
def test_what_reaches_beyond_a_container_of_its_own_is_known(spec: InstanceSpec, reaches: bool) -> None:
    assert reaches_host(spec) is reaches


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
specs = st.builds(
    InstanceSpec,
    command=st.lists(texts, max_size=3).map(tuple),
    entrypoint=st.lists(texts, max_size=3).map(tuple),
    environment=st.dictionaries(texts, texts, max_size=3),
    labels=st.dictionaries(texts, texts, max_size=3),
    ports=st.lists(
        st.builds(PortMapping, st.integers(1, 65535), st.integers(0, 65535), texts, st.sampled_from(["tcp", "udp"])),
        max_size=3,
    ).map(tuple),
    mounts=st.lists(st.builds(Mount, texts, texts, st.booleans(), texts), max_size=3).map(tuple),
    cpus=st.floats(0, 4096),
    memory_bytes=st.integers(0, 1 << 46),
    health_check=st.none()
    | st.builds(
        HealthCheck, st.lists(texts, max_size=3).map(tuple), st.floats(0.1, 60), st.floats(0.1, 60), st.integers(1, 9)
    ),
    stop_grace_seconds=st.integers(0, 3600),
    cpu_set=texts,
    disk_bytes=st.integers(0, 1 << 50),
    network=texts,
    hostname=texts,
    user=texts,
    working_dir=texts,
    privileged=st.booleans(),
    adopt=st.none() | st.builds(AdoptionWish, texts, st.booleans()),
)


@given(specs)
def test_a_specification_survives_the_database(spec: InstanceSpec) -> None:
    assert spec_of(json.loads(json.dumps(spec_record(spec)))) == spec


def test_a_row_of_an_older_version_has_defaults_for_what_it_lacks() -> None:
    assert spec_of({}) == InstanceSpec()
