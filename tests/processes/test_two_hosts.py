"""Two hosts with real Docker and LXD, and everything that can happen to them: it converges without a human, nothing of
an older generation is left, nothing of others is touched, and nothing runs twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from tests.engines.fixtures import running
from tests.processes.two_hosts import DOCKER, LXD, Thing, TwoHosts, two_hosts

pytestmark = [
    pytest.mark.processes,
    pytest.mark.engine("docker"),
    pytest.mark.engine("lxd"),
    pytest.mark.timeout(240),
]
ONE, OTHER = "east-1", "east-2"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHosts]:
    with running("docker and lxd", two_hosts(tmp_path_factory.mktemp("fleet"))) as world:
        yield world


@pytest.fixture
def world(hosts: TwoHosts) -> Iterator[TwoHosts]:
    """As wished when the test begins and when it ends; what is of others is then as it was, and ran on wherever its
    engine did not end it.
    """
    before = {host: hosts.foreign(host) for host in hosts.machines}
    hosts.shaken.clear()
    yield hosts
    hosts.heal()
    hosts.wait_settled()
    for host, things in before.items():
        # An engine that lost its containers starts those of others again by itself.
        hosts.wait(partial(as_before, hosts, host, things))


def as_before(world: TwoHosts, host: str, things: dict[str, Any]) -> bool:
    return comparable(world, host) == comparable(world, host, things)


def comparable(world: TwoHosts, host: str, things: dict[str, Any] | None = None) -> dict[str, Any]:
    """What is of others, now or as it was; without their lives where a fault ended them."""
    found = dict(things or world.foreign(host))
    for engine, key in ((DOCKER, "containers"), (LXD, "instances")):
        if (host, engine) in world.shaken:
            found[key] = [replace(one, life="") for one in found[key]]
    return found


def of_engine(things: list[Thing], engine: str) -> list[Thing]:
    return [one for one in things if one.name.startswith(f"ls-acme-{engine}-")]


def wait_begun(world: TwoHosts, host: str, engine: str, version: str) -> None:
    """Until the host has made something of this version: it is in the middle of the change."""
    world.wait(lambda: any(one.version == version for one in of_engine(world.things(host), engine)))


def test_behind_a_cut_link_all_runs_on_and_what_was_asked_for_meanwhile_is_done_afterwards(world: TwoHosts) -> None:
    before = world.things(ONE)
    world.machines[ONE].cut()
    world.wait(lambda: world.state_of(ONE) == "offline")
    world.change()
    world.wait_settled(OTHER)
    assert world.things(ONE) == before
    world.machines[ONE].heal()
    world.wait_settled()
    assert world.state_of(ONE) == "online"


def test_dockerd_killed_in_the_middle_of_a_change(world: TwoHosts) -> None:
    version = world.change()
    wait_begun(world, ONE, DOCKER, version)
    world.kill_docker(ONE)
    world.wait_settled(OTHER)
    world.machines[ONE].docker.start()
    world.wait_settled()


def test_what_a_killed_dockerd_left_is_started_again(world: TwoHosts) -> None:
    before = world.things(ONE)
    world.kill_docker(ONE)
    assert of_engine(before, LXD) == world.lxd_things(ONE)
    world.machines[ONE].docker.start()
    world.wait_settled()


def test_lxd_killed_in_the_middle_of_a_change(world: TwoHosts) -> None:
    before = world.things(ONE)
    world.machines[ONE].lxd.kill()
    world.machines[ONE].lxd.start()
    world.wait_settled()
    assert world.things(ONE) == before

    version = world.change()
    wait_begun(world, ONE, LXD, version)
    world.machines[ONE].lxd.kill()
    world.wait_settled(OTHER)
    world.machines[ONE].lxd.start()
    world.wait_settled()


def test_power_lost_in_the_middle_of_a_change(world: TwoHosts) -> None:
    version = world.change()
    wait_begun(world, ONE, LXD, version)
    world.reboot(ONE)
    world.wait_settled()
