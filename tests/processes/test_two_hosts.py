"""Two hosts with real Docker and LXD, and everything that can happen to them: it converges without a human, nothing of
an older generation is left, nothing of others is touched, and nothing runs twice.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterator, Mapping
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


# What an engine says between two steps of an agent that replaces something.
DOCKER_STEPS = ("kill", "die", "destroy", "pull", "create", "start")
LXD_STEPS = (
    *("instance-shutdown", "instance-deleted", "image-created", "image-alias-created"),
    *("instance-created", "instance-started"),
)


def kill_at_each_step(
    world: TwoHosts, events: Mapping[str, EngineEvents], steps: Mapping[str, Collection[str]]
) -> None:
    """Kill -9 a host's agent when its engine says for the first time that such a step is done; at every one."""
    left = {(host, what) for host, all_of_them in steps.items() for what in all_of_them}
    deadline = time.monotonic() + 90
    while left:
        assert time.monotonic() < deadline, f"never came to {left}{world.report()}"
        for host, seen in events.items():
            for step in [(host, what) for what, _ in seen.so_far()]:
                if step in left:
                    world.kill_agent(host)
                    left.remove(step)
        time.sleep(0.01)


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


def test_agents_killed_after_each_step(world: TwoHosts) -> None:
    with docker_events(world.machines[ONE]) as of_docker, lxd_events(world.machines[OTHER]) as of_lxd:
        version = world.change()
        kill_at_each_step(world, {ONE: of_docker, OTHER: of_lxd}, {ONE: DOCKER_STEPS, OTHER: LXD_STEPS})
    world.wait_settled()
    assert {one.version for host in world.machines for one in world.things(host)} == {version}


def test_agents_killed_at_any_moment_of_two_changes(world: TwoHosts) -> None:
    moments = random.Random("two changes")
    for number in range(10):
        if number in (0, 5):
            world.change()
        time.sleep(moments.uniform(0.0, 2.0))
        world.kill_agent(moments.choice((ONE, OTHER)))
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
