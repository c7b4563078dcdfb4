"""Orders in LXD's words, and instances in ours; nothing here needs an LXD."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import ContainerSpec, ContainerState, Health, HealthCheck, Mount, PortMapping
from agent.runtimes import ContainerOrder, EngineCannot
from agent.runtimes.lxd_adoption import inherited_from, stranger_of
from agent.runtimes.lxd_calls import AlreadyThere, failure_of
from agent.runtimes.lxd_health import Course
from agent.runtimes.lxd_init import beyond, command_in, lines_of, merged
from agent.runtimes.lxd_logs import what_is_new, whole_lines
from agent.runtimes.lxd_shapes import (
    Place,
    bytes_in,
    container_of,
    health_check_in,
    instance_body,
    instance_name,
    require_possible,
    sample_of,
)
from common.digest import Digest

PROFILE = {
    "root": {"type": "disk", "path": "/", "pool": "default"},
    "eth0": {"type": "nic", "network": "lxdbr0", "name": "eth0"},
}
PLACE = Place("default", "default", False, PROFILE)
NAME = r"[a-zA-Z]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"


def body_of(spec: ContainerSpec, place: Place = PLACE, **inherited: Any) -> dict[str, Any]:
    order = ContainerOrder("ls-acme-web-1234", "instance", 3, "a" * 32, Digest.of(b"x"), spec)
    return instance_body(order, "host-1", "fingerprint", place, lambda _: 4711, inherited)


def instance(**changes: Any) -> dict[str, Any]:
    config = {"volatile.uuid": "an-id", "user.longshore.host": "host-1", **changes.pop("config", {})}
    return {
        "name": "ls-acme-web-1234",
        "status": "Running",
        "last_used_at": "2026-01-01T00:00:00Z",
        "devices": {},
        "config": config,
        **changes,
    }


@given(st.text(min_size=1, max_size=150))
def test_every_name_becomes_one_that_lxd_takes(name: str) -> None:
    made = instance_name(name)
    assert len(made) <= 63
    assert made.isascii()
    assert made[0].isalpha()
    assert made[-1].isalnum()
    assert all(letter.isalnum() or letter == "-" for letter in made)
    assert instance_name(made) == made


@given(st.lists(st.text(max_size=80), min_size=2, max_size=6, unique=True))
def test_different_names_stay_different(names: list[str]) -> None:
    plain = [name for name in names if name]
    assert len({instance_name(name) for name in plain}) == len(plain)


@given(st.lists(st.text(max_size=20), max_size=5), st.text(max_size=30), st.text(max_size=20), st.text(max_size=20))
def test_no_word_of_a_tenant_becomes_a_line_of_its_own(argv: list[str], folder: str, user: str, host: str) -> None:
    spec = ContainerSpec(command=tuple(argv), working_dir=folder, user=user, hostname=host)
    try:
        lines = lines_of(spec)
    except EngineCannot:
        return
    text = merged("", lines)
    assert len(text.splitlines()) == len(lines)
    assert command_in(text) == tuple(argv)


@given(st.dictionaries(st.text(max_size=10), st.just(""), max_size=3))
def test_no_variables_name_becomes_a_line_of_its_own(environment: dict[str, str]) -> None:
    try:
        lines = lines_of(ContainerSpec(environment=environment))
    except EngineCannot:
        return
    assert len(merged("", lines).splitlines()) == len(environment)


@pytest.mark.parametrize("word", ["", "two words", "it's", 'a"b', "a\tb", "a\nb", "#"])
def test_words_that_lxc_would_split_or_lose_are_refused(word: str) -> None:
    with pytest.raises(EngineCannot):
        lines_of(ContainerSpec(command=("/bin/sh", "-c", word)))


def test_lines_of_others_stay_and_ours_replace_their_like() -> None:
    raw = merged("lxc.init.cmd = /bin/old\nlxc.mount.auto=cgroup", (("lxc.init.cmd", "/bin/new"),))
    assert raw == "lxc.mount.auto=cgroup\nlxc.init.cmd=/bin/new"
    assert beyond(raw) == "lxc.mount.auto=cgroup"


def test_limits_and_devices_are_in_lxds_words() -> None:
    spec = ContainerSpec(
        environment={"COLOUR": "green"},
        ports=(PortMapping("", 0, 80), PortMapping("::1", 53, 5353, "udp")),
        mounts=(Mount("data", "/data"), Mount("", "/etc/x", True, host_path="/srv/x")),
        cpus=0.25,
        memory_bytes=64 << 20,
        cpu_set="3",
        privileged=True,
    )
    body = body_of(spec)
    config, devices = body["config"], body["devices"]
    assert config["environment.COLOUR"] == "green"
    assert config["limits.cpu.allowance"] == "25ms/100ms"
    assert config["limits.cpu"] == "3-3", "a lone number would be a count"
    assert config["limits.memory"] == "67108864B"
    assert config["security.privileged"] == "true"
    assert devices["longshore-port-0"]["listen"] == "tcp:127.0.0.1:4711"
    assert devices["longshore-port-1"] == {
        "type": "proxy",
        "listen": "udp:[::1]:53",
        "connect": "udp:127.0.0.1:5353",
    }
    assert devices["longshore-mount-0"] == {"type": "disk", "pool": "default", "source": "data", "path": "/data"}
    assert devices["longshore-mount-1"] == {"type": "disk", "source": "/srv/x", "path": "/etc/x", "readonly": "true"}


def test_nothing_is_privileged_unless_it_was_asked_for() -> None:
    assert "security.privileged" not in body_of(ContainerSpec())["config"]


def test_networks_replace_the_profiles_or_take_it_away() -> None:
    assert body_of(ContainerSpec())["devices"] == {}
    assert body_of(ContainerSpec(network="bridge"))["devices"] == {}
    assert body_of(ContainerSpec(network="none"))["devices"] == {"eth0": {"type": "none"}}
    named = {"type": "nic", "network": "lan", "name": "eth0"}
    assert body_of(ContainerSpec(network="lan"))["devices"] == {"eth0": named}
    operators = dataclasses.replace(PLACE, network="lan")
    assert body_of(ContainerSpec(), operators)["devices"] == {"eth0": named}


def test_an_instance_has_a_root_disk_whatever_the_profile_says() -> None:
    bare = Place("bare", "fast", True, {})
    assert body_of(ContainerSpec(), bare)["devices"]["root"] == {"type": "disk", "path": "/", "pool": "fast"}
    sized = body_of(ContainerSpec(disk_bytes=1 << 30), bare)["devices"]["root"]
    assert sized["size"] == "1073741824B"


def test_what_lxd_cannot_do_is_refused_before_anything_is_made() -> None:
    for spec in (ContainerSpec(network="host"), ContainerSpec(disk_bytes=1)):
        with pytest.raises(EngineCannot):
            require_possible(spec, PLACE)
    require_possible(ContainerSpec(disk_bytes=1), dataclasses.replace(PLACE, pool_limits=True))


def test_a_predecessors_own_settings_are_taken_over_and_ours_go_first() -> None:
    before = instance(
        config={
            "volatile.x": "y",
            "image.os": "z",
            "boot.autostart": "true",
            "limits.memory": "1GiB",
            "user.longshore.adopt": "acme/web",
        },
        devices={
            "gpu": {"type": "gpu"},
            "data": {"type": "disk", "path": "/data", "source": "/old"},
            "longshore-port-0": {"type": "proxy", "listen": "tcp:127.0.0.1:1"},
        },
    )
    spec = ContainerSpec(memory_bytes=1 << 20, mounts=(Mount("new", "/data"),))
    body = body_of(spec, **inherited_from(before))
    assert body["config"]["boot.autostart"] == "true"
    assert body["config"]["limits.memory"] == "1048576B"
    assert not {"volatile.x", "image.os", "user.longshore.adopt"} & body["config"].keys()
    assert set(body["devices"]) == {"gpu", "longshore-mount-0"}


def test_a_stranger_is_described_in_our_words() -> None:
    found = stranger_of(
        instance(
            config={
                "environment.COLOUR": "red",
                "limits.memory": "64MiB",
                "limits.cpu": "2",
                "raw.lxc": "lxc.init.cmd=/bin/sleep 9",
                "security.nesting": "true",
                "user.team": "blue",
            },
            devices={
                "web": {"type": "proxy", "listen": "tcp:0.0.0.0:80", "connect": "tcp:127.0.0.1:8080"},
                "odd": {"type": "proxy", "listen": "unix:/x", "connect": "tcp:127.0.0.1:1"},
                "data": {"type": "disk", "pool": "default", "source": "data", "path": "/data"},
            },
        ),
        frozenset(),
    )
    assert found.spec == ContainerSpec(
        command=("/bin/sleep", "9"),
        environment={"COLOUR": "red"},
        labels={"team": "blue"},
        ports=(PortMapping("0.0.0.0", 80, 8080),),
        mounts=(Mount("data", "/data"),),
        cpus=2.0,
        memory_bytes=64 << 20,
    )
    assert found.beyond == ("device odd", "security.nesting")


@pytest.mark.parametrize(
    ("status", "used", "state"),
    [
        ("Stopped", "1970-01-01T00:00:00Z", ContainerState.CREATED),
        ("Stopped", "2026-01-01T00:00:00Z", ContainerState.EXITED),
        ("Running", "2026-01-01T00:00:00Z", ContainerState.RUNNING),
        ("Frozen", "2026-01-01T00:00:00Z", ContainerState.PAUSED),
    ],
)
def test_states_are_lxds(status: str, used: str, state: ContainerState) -> None:
    assert container_of(instance(status=status, last_used_at=used)).state is state


def test_an_instance_whose_state_nobody_knows_is_not_removed_or_replaced() -> None:
    container = container_of(instance(status="Error"))
    assert container.state is ContainerState.RUNNING
    assert container.health is Health.UNHEALTHY


def test_an_instance_that_was_renamed_by_others_shows_lxds_name() -> None:
    config = {"user.longshore.name": "ls-acme-web.old"}
    assert container_of(instance(name=instance_name("ls-acme-web.old"), config=config)).name == "ls-acme-web.old"
    assert container_of(instance(name="renamed", config=config)).name == "renamed"


def test_a_health_check_survives_the_way_through_lxds_config() -> None:
    check = HealthCheck(("/bin/true", "x"), interval_seconds=1.5, retries=2)
    config = body_of(ContainerSpec(health_check=check))["config"]
    assert health_check_in({"config": config}) == check
    assert health_check_in({"config": {"user.longshore.health": "nonsense"}}) is None


def test_a_sample_counts_what_crossed_the_network_but_not_the_loopback() -> None:
    state = {
        "cpu": {"usage": 2_500_000_000},
        "memory": {"usage": 4096},
        "network": {
            "lo": {"counters": {"bytes_received": 9, "bytes_sent": 9}},
            "eth0": {"counters": {"bytes_received": 1, "bytes_sent": 2}},
        },
        "processes": 3,
    }
    sample = sample_of(instance(expanded_config={"limits.memory": "64MiB"}), state)
    assert (sample.cpu_seconds, sample.memory_bytes, sample.memory_limit_bytes) == (2.5, 4096, 64 << 20)
    assert (sample.received_bytes, sample.sent_bytes, sample.processes) == (1, 2, 3)


def test_sizes_are_read_with_their_units() -> None:
    assert [bytes_in(text) for text in ("64MiB", "2GB", "10", "5B", "50%", "", "x")] == [
        64 << 20,
        2_000_000_000,
        10,
        5,
        0,
        0,
        0,
    ]


def test_what_is_new_on_a_console_is_told_once() -> None:
    assert what_is_new(b"one\n", b"one\ntwo\n") == b"two\n"
    seen = b"".join(b"line %d\n" % number for number in range(1000))
    assert what_is_new(seen, seen[5000:] + b"more\n") == b"more\n", "the beginning is lost when the buffer is full"
    assert what_is_new(b"before\n", b"after\n") == b"after\n"


def test_a_consoles_lines_are_whole() -> None:
    assert whole_lines(b"one\r\ntwo\r\nthr") == ([b"one\n", b"two\n"], b"thr")


def test_a_health_check_needs_its_retries_and_forgives_the_beginning() -> None:
    check = HealthCheck(("x",), interval_seconds=5, retries=2, start_period_seconds=10)
    course = Course("start", 0.0, 0.0)
    course = course.after(False, check, 1.0)
    assert (course.health, course.failures, course.next_due) == (Health.STARTING, 0, 6.0)
    course = course.after(True, check, 6.0)
    assert course.health is Health.HEALTHY
    course = course.after(False, check, 11.0)
    assert course.health is Health.HEALTHY
    assert course.after(False, check, 16.0).health is Health.UNHEALTHY
    assert course.after(True, check, 16.0).failures == 0


def test_lxds_words_say_whether_to_try_again() -> None:
    assert failure_of("LXD is shutting down").code == "engine_away"
    assert failure_of("Instance is busy running a create operation").code == "engine_away"
    assert failure_of("No root device could be found").code == "engine_refused"
    assert isinstance(failure_of('Instance "x" already exists'), AlreadyThere)
    assert isinstance(failure_of("UNIQUE constraint failed: images.project_id, images.fingerprint"), AlreadyThere)
