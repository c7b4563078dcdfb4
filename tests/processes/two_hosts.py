"""Two hosts on one computer, each with a real dockerd, a real LXD and an agent; the centre and a regional outside.

What runs is asked of the engines themselves, what is wanted of the control plane. Beside what the fleet makes there are
things of others in each engine, some of which look like ours.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.runtimes import LABEL_HOST, LABEL_INSTANCE
from common.reference import Reference
from control_plane.cli.image_source import open_image
from control_plane.cli.lxd_image import open_lxd_image
from control_plane.cli.push import push
from deploy.demo.fleet import Fleet, Idc, Node
from deploy.demo.sample import build_sample
from deploy.demo.services import Service
from tests.engines.dockerd import IMAGE
from tests.engines.hosts import HostMachine, Switch, host_machines
from tests.engines.lxd import POOL
from tests.engines.lxd_image import unified_image

DOCKER, LXD = "web", "box"
# Three periods without a word, and the control plane takes a host for lost.
HEARTBEAT_SECONDS = 1.0
NAMES = frozenset({f"{kind}-{which}" for kind in (DOCKER, LXD) for which in ("one", "two")})
# Both hosts at once, whatever becomes of them: here it is the hosts that are tested.
_PACE = {"max_unavailable": 2, "healthy_seconds": 1, "max_failures": 2}
_FOREIGN_INIT = ["sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait"]
_LXD_LABEL = "user."


@dataclass(frozen=True, order=True)
class Thing:
    """A container of either engine. `life` is another one after each start."""

    name: str
    instance_id: str
    version: str
    state: str
    life: str


class TwoHosts:
    def __init__(self, fleet: Fleet, machines: Mapping[str, HostMachine]) -> None:
        self.fleet = fleet
        self.machines = machines
        self.versions: dict[str, str] = {}  # by manifest digest
        self.shaken: set[tuple[str, str]] = set()  # (host, engine) whose containers a fault ended
        self.cut_off: set[str] = set()  # hosts that nobody reaches
        self._serial = 0

    # Asking for things.

    def push_images(self, version: str) -> None:
        box = self.fleet.root / f"box-{version}.tar.gz"
        box.write_bytes(unified_image(version))
        sources = {
            DOCKER: open_image(build_sample(self.fleet.root / f"web-{version}", 1).layout, self.fleet.root),
            LXD: open_lxd_image(box, None),
        }
        for kind, source in sources.items():
            reference = Reference.parse(f"acme/{kind}:{version}")
            self.versions[str(push(self.fleet.client, reference, source, lambda _digest, _held: None))] = version

    def deploy(self, name: str, image: str) -> None:
        """On every host."""
        asked = {"tenant": "acme", "name": name, "image": f"acme/{image}", "stop_grace_seconds": 1}
        self.fleet.client.post("/api/v1/deployments", {**asked, "rules": {"everywhere": True}})

    def change(self) -> str:
        """Ask for a version of everything that no host has seen, and tell which: a generation more of each instance."""
        self._serial += 1
        version = str(self._serial)
        self.push_images(version)
        for name in sorted(NAMES):
            image = f"{name.partition('-')[0]}:{version}"
            if self._serial == 1:
                self.deploy(name, image)
            else:
                asked = {"image": f"acme/{image}", "pace": _PACE}
                self.fleet.client.put(f"/api/v1/deployments/acme/{name}/-/image", asked)
        return version

    def rows(self, host: str = "") -> list[dict[str, Any]]:
        return [row for row in self.fleet.instances() if not host or row["host"] == host]

    # What is there.

    def agent(self, host: str) -> Service:
        return self.fleet.services[host]

    def things(self, host: str) -> list[Thing]:
        """Of this fleet, on this host, in both engines."""
        ours = str(self.agent(host).facts["host_id"])
        return sorted([*self.lxd_things(host), *(thing for owner, thing in self._containers(host) if owner == ours)])

    def lxd_things(self, host: str) -> list[Thing]:
        ours = str(self.agent(host).facts["host_id"])
        return sorted(thing for owner, thing in self._instances(host) if owner == ours)

    def foreign(self, host: str) -> dict[str, Any]:
        """Everything that is not of this host's agent."""
        ours, machine = str(self.agent(host).facts["host_id"]), self.machines[host]
        with contextlib.closing(machine.docker.client()) as docker:
            volumes = sorted(str(one.name) for one in docker.volumes.list())
            images = sorted(str(one.id) for one in docker.images.list() if IMAGE in one.tags)
        lxd = machine.lxd.client()
        return {
            "containers": sorted(thing for owner, thing in self._containers(host) if owner != ours),
            "instances": sorted(thing for owner, thing in self._instances(host) if owner != ours),
            "volumes": volumes,
            "images": images,
            "lxd volumes": sorted(
                one.name for one in lxd.storage_pools.get(POOL).volumes.all() if one.type == "custom"
            ),
            "profiles": sorted(one.name for one in lxd.profiles.all()),
        }

    def _containers(self, host: str) -> Iterator[tuple[str, Thing]]:
        with contextlib.closing(self.machines[host].docker.client()) as docker:
            for one in docker.containers.list(all=True, ignore_removed=True):
                labels, image = one.labels, str(one.attrs["Config"]["Image"])
                version = self.versions.get(image.partition("@")[2], image)
                life = f"{one.attrs['State']['StartedAt']} {one.id}"
                yield (
                    labels.get(LABEL_HOST, ""),
                    Thing(str(one.name), labels.get(LABEL_INSTANCE, ""), version, one.status, life),
                )

    def _instances(self, host: str) -> Iterator[tuple[str, Thing]]:
        answer = self.machines[host].lxd.client().api.instances.get(params={"recursion": 2})
        for one in answer.json()["metadata"]:
            config = one["config"]
            life = f"{(one['state'] or {}).get('pid', 0)} {config.get('volatile.uuid')}"
            yield (
                config.get(_LXD_LABEL + LABEL_HOST, ""),
                Thing(
                    one["name"],
                    config.get(_LXD_LABEL + LABEL_INSTANCE, ""),
                    config.get("image.variant", ""),
                    one["status"].lower(),
                    life,
                ),
            )

    # Being as wished.

    def why_not_settled(self, *hosts: str) -> str:
        """Empty: every instance runs as it is wanted now, once, and its host says so; nothing else of ours is left. Of
        all hosts that are not cut off, unless some are named.
        """
        for host in hosts or self.machines.keys() - self.cut_off:
            rows, things = self.rows(host), self.things(host)
            asked = {(row["name"].rpartition("-")[0], self.versions[row["digest"]]) for row in rows}
            if asked != {(name, str(self._serial)) for name in NAMES}:
                return f"{host} is asked for {asked}"
            for row in rows:
                said = (row["phase"], row["observed_generation"], row["health"] == "unhealthy")
                if said != (row["desired_state"], row["generation"], False):
                    return f"{host} says of {row['name']}: {row['phase']}, {row['health']}, {row['detail']}"
            wanted = sorted((row["id"], self.versions[row["digest"]], row["desired_state"]) for row in rows)
            there = sorted((one.instance_id, one.version, _word(one.state)) for one in things)
            if there != wanted or any(".old-" in one.name for one in things):
                return f"{host} has {things}, wanted are {wanted}"
        return ""

    def wait_settled(self, *hosts: str, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while why := self.why_not_settled(*hosts):
            assert time.monotonic() < deadline, why + self.report()
            time.sleep(0.2)

    def wait(self, condition: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.report()
            time.sleep(0.1)

    def state_of(self, host: str) -> str:
        (row,) = [row for row in self.fleet.client.every("/api/v1/hosts") if row["name"] == host]
        return str(row["state"])

    def report(self) -> str:
        logs = "\n".join(f"{host}: {self.agent(host).log_tail()}" for host in self.machines)
        return json.dumps(self.rows(), indent=1) + logs

    # Faults.

    def cut(self, host: str) -> None:
        self.cut_off.add(host)
        self.machines[host].cut()

    def plug_in(self, host: str) -> None:
        self.machines[host].heal()
        self.cut_off.discard(host)

    def kill_docker(self, host: str) -> None:
        self.shaken.add((host, DOCKER))
        self.machines[host].docker.kill()

    def kill_agent(self, host: str) -> None:
        """And start it again at once. From a thread that lasts: the agent ends with the thread that started it."""
        self.agent(host).kill()
        self.agent(host).launch()

    def reboot(self, host: str) -> None:
        """Power fails and comes back: the agent and the engines start side by side, as a boot starts them."""
        machine, agent = self.machines[host], self.agent(host)
        self.shaken |= {(host, DOCKER), (host, LXD)}
        agent.kill()
        machine.lose_power()
        agent.prefix = machine.command_prefix
        agent.launch()
        machine.start_engines()
        agent.wait_ready()

    def heal(self) -> None:
        """Every process runs, whatever a test left."""
        for host, machine in self.machines.items():
            if not machine.docker.process.running:
                machine.docker.start()
            machine.lxd.heal()
            if not self.agent(host).running:
                self.agent(host).start()


def _word(state: str) -> str:
    return {"exited": "stopped"}.get(state, state)


def _put_foreign_things(world: TwoHosts) -> None:
    """Of people and of other agents; two of them claim to be of the other host's agent, and one has our name."""
    for host, machine in world.machines.items():
        (other,) = set(world.machines) - {host}
        like_ours = {
            LABEL_HOST: str(world.agent(other).facts["host_id"]),
            LABEL_INSTANCE: str(world.rows(host)[0]["id"]),
        }
        with contextlib.closing(machine.docker.client()) as docker:
            run: dict[str, Any] = {"detach": True, "restart_policy": {"Name": "always"}}
            docker.containers.run(IMAGE, _FOREIGN_INIT, name="plain", **run)
            docker.containers.run(IMAGE, _FOREIGN_INIT, name="alike", labels=like_ours, **run)
            docker.containers.create(IMAGE, _FOREIGN_INIT, name="ls-acme-never-started")
            docker.volumes.create("plain")
        lxd = machine.lxd.client()
        lxd.storage_pools.get(POOL).volumes.create({"name": "plain", "type": "custom"}, wait=True)
        lxd.profiles.create("plain")
        image = lxd.images.create(unified_image("foreign"), public=False, wait=True)
        labels = {_LXD_LABEL + key: value for key, value in like_ours.items()}
        for name, config in {f"plain-{host}": {}, f"alike-{host}": labels}.items():
            made = {"name": name, "config": config, "source": {"type": "image", "fingerprint": image.fingerprint}}
            lxd.instances.create({**made, "type": "container"}, wait=True).start(wait=True)


@contextlib.contextmanager
def two_hosts(root: Path) -> Iterator[TwoHosts]:
    """Raises `EngineCannotRun`."""
    with host_machines(2) as (switch, machines):
        named = {f"east-{number}": machine for number, machine in enumerate(machines, 1)}
        with _fleet(root, switch, named) as fleet:
            fleet.start()
            world = TwoHosts(fleet, named)
            world.change()
            world.wait_settled()
            _put_foreign_things(world)
            yield world


def _fleet(root: Path, switch: Switch, machines: Mapping[str, HostMachine]) -> Fleet:
    nodes = [
        Node(
            name,
            machine.address,
            machine.command_prefix,
            (f"--docker-host={machine.docker.host}", f"--lxd-socket={machine.lxd.socket}"),
        )
        for name, machine in machines.items()
    ]
    return Fleet(
        root,
        Node("centre", switch.address),
        [Idc("east", Node("regional-east", switch.address), tuple(nodes))],
        runtime="docker+lxd",
        server_environment={"LONGSHORE_FLEET__HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS)},
    )
