"""Two hosts with real Docker and LXD, and everything that can happen to them: it converges without a human, nothing of
an older generation is left, nothing of others is touched, and nothing runs twice.

All the while one of the two is behind a cut link, for more than a minute; what it makes of that is the last test.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from tests.engines.fixtures import running
from tests.processes.engine_events import EngineEvents, docker_events, lxd_events
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


@pytest.fixture(scope="module")
def before_the_cut(hosts: TwoHosts) -> list[Thing]:
    """What the other host ran when its link was cut."""
    found = hosts.things(OTHER)
    hosts.cut(OTHER)
    return found


@pytest.fixture
def world(hosts: TwoHosts, before_the_cut: list[Thing]) -> Iterator[TwoHosts]:
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


# What an engine says between two steps of an agent that replaces something.
DOCKER_STEPS = ("pull", "kill", "die", "rename", "create", "start", "destroy")
LXD_STEPS = (
    *("image-created", "image-alias-created", "instance-shutdown", "instance-renamed"),
    *("instance-created", "instance-started", "instance-deleted"),
)


def kill_after_each(world: TwoHosts, host: str, steps: Collection[str], *engines: EngineEvents) -> None:
    """Kill -9 the host's agent when an engine says for the first time that such a step is done; at every one."""
    left, deadline = set(steps), time.monotonic() + 90
    while left:
        assert time.monotonic() < deadline, f"never came to {left}{world.report()}"
        for what in [what for engine in engines for what, _ in engine.so_far()]:
            if what in left:
                world.kill_agent(host)
                left.remove(what)
        time.sleep(0.01)


def wait_begun(world: TwoHosts, host: str, engine: str, version: str) -> None:
    """Until the host has made something of this version: it is in the middle of the change."""
    world.wait(lambda: any(one.version == version for one in of_engine(world.things(host), engine)))


def test_dockerd_killed_in_the_middle_of_a_change(world: TwoHosts) -> None:
    version = world.change()
    wait_begun(world, ONE, DOCKER, version)
    world.kill_docker(ONE)
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
    world.machines[ONE].lxd.start()
    world.wait_settled()


def test_power_lost_in_the_middle_of_a_change(world: TwoHosts) -> None:
    version = world.change()
    wait_begun(world, ONE, LXD, version)
    world.reboot(ONE)
    world.wait_settled()


def test_an_agent_killed_after_each_step(world: TwoHosts) -> None:
    machine = world.machines[ONE]
    with docker_events(machine) as of_docker, lxd_events(machine) as of_lxd:
        version = world.change()
        kill_after_each(world, ONE, DOCKER_STEPS + LXD_STEPS, of_docker, of_lxd)
    world.wait_settled()
    assert {one.version for one in world.things(ONE)} == {version}


def test_an_agent_killed_at_any_moment_of_two_changes(world: TwoHosts) -> None:
    moments = random.Random("two changes")
    for number in range(10):
        if number in (0, 5):
            world.change()
        time.sleep(moments.uniform(0.0, 2.0))
        world.kill_agent(ONE)
    world.wait_settled()


@pytest.mark.parametrize("engine", [DOCKER, LXD])
def test_an_agent_killed_in_the_middle_of_a_command_never_does_it_twice(engine: str, world: TwoHosts) -> None:
    listen, first, again = {
        DOCKER: (docker_events, "kill", "start"),
        LXD: (lxd_events, "instance-shutdown", "instance-started"),
    }[engine]
    row = next(row for row in world.rows(ONE) if row["name"].startswith(engine))
    with listen(world.machines[ONE]) as events:
        asked = f"/api/v1/instances/{row['id']}/commands"
        command = world.fleet.client.post(asked, {"verb": "restart"})["data"]["id"]
        while events.next(first)[0] != first:
            pass
        world.kill_agent(ONE)

        def ended() -> bool:
            state = world.fleet.client.get(f"/api/v1/commands/{command}")["data"]["state"]
            return state in ("done", "interrupted")

        world.wait(ended)
        world.wait_settled()
        assert [what for what, _ in events.so_far() if what in (first, again)] == [again]


def test_a_host_that_was_cut_off_for_a_minute_ran_on_and_catches_up(
    world: TwoHosts, before_the_cut: list[Thing]
) -> None:
    assert world.state_of(OTHER) == "offline"
    assert world.things(OTHER) == before_the_cut
    world.kill_agent(OTHER)
    world.agent(OTHER).wait_ready()
    assert world.things(OTHER) == before_the_cut
    version = world.change()
    world.wait_settled(ONE)
    world.plug_in(OTHER)
    world.wait_settled()
    assert world.state_of(OTHER) == "online"
    assert {one.version for one in world.things(OTHER)} == {version}
