"""Instances of two real LXDs: moved while everybody is killed in turn, kept as snapshots, exported, with volumes that
are their tenant's own.
"""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pylxd.exceptions import NotFound

from common.reference import Reference
from control_plane.cli.lxd_image import open_lxd_image
from control_plane.cli.push import push
from deploy.demo.fleet import Fleet, Idc, Node
from tests.engines.fixtures import running
from tests.engines.hosts import HostMachine, host_machines
from tests.engines.lxd_image import unified_image
from tests.pace import BUSY_SECONDS

pytestmark = [
    pytest.mark.processes,
    pytest.mark.engine("docker"),  # the machines have one too
    pytest.mark.engine("lxd"),
    pytest.mark.timeout(240),
]
ONE, OTHER = "east-1", "east-2"
IMAGE = "acme/system:1"
MARK = "/mark"
_ENDED = ("done", "failed", "cancelled")


class World:
    def __init__(self, fleet: Fleet, machines: Mapping[str, HostMachine]) -> None:
        self.fleet = fleet
        self.machines = machines

    def run(self, name: str, host: str, tenant: str = "acme", **more: Any) -> str:
        asked = {"tenant": tenant, "name": name, "image": IMAGE, "hosts": [f"east/{host}"], "stop_grace_seconds": 1}
        (row,) = self.fleet.client.post("/api/v1/instances", {**asked, **more})["data"]
        self.wait(lambda: self.row(row["id"])["phase"] == "running")
        return str(row["id"])

    def row(self, instance_id: str) -> dict[str, Any]:
        return dict(self.fleet.client.get(f"/api/v1/instances/{instance_id}")["data"])

    def migration(self, instance_id: str) -> dict[str, Any]:
        return dict(self.fleet.client.get(f"/api/v1/instances/{instance_id}/migration")["data"])

    def lxd(self, host: str) -> Any:
        return self.machines[host].lxd.client()

    def there(self, host: str, instance_id: str) -> list[Any]:
        """What this LXD has of an instance, under whatever name: in one answer, for some go meanwhile."""
        found = self.lxd(host).instances.all(recursion=1)
        return [one for one in found if one.config.get("user.longshore.instance") == instance_id]

    def write(self, host: str, instance_id: str, text: str, path: str = MARK) -> None:
        (found,) = self.there(host, instance_id)
        found.files.put(path, text.encode())

    def read(self, host: str, instance_id: str, path: str = MARK) -> str:
        (found,) = self.there(host, instance_id)
        return bytes(found.files.get(path)).decode()

    def snapshot(self, method: str, path: str, body: Any = None) -> None:
        made = self.fleet.client.call(method, path, body=body)["data"]
        self.wait(lambda: self.fleet.client.get(f"/api/v1/commands/{made['id']}")["data"]["state"] == "done")

    def wait(self, condition: Callable[[], object], seconds: float = BUSY_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.report()
            time.sleep(0.1)

    def report(self) -> str:
        logs = "\n".join(f"{name}: {service.log_tail()}" for name, service in self.fleet.services.items())
        moves = self.fleet.client.every("/api/v1/migrations")
        return json.dumps([*self.fleet.instances(), *moves], indent=1) + logs


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("fleet")
    with running("docker and lxd", host_machines(2)) as (switch, found):
        machines = dict(zip((ONE, OTHER), found, strict=True))
        nodes = [
            Node(name, one.address, one.command_prefix, (f"--lxd-socket={one.lxd.socket}",))
            for name, one in machines.items()
        ]
        idc = Idc("east", Node("regional-east", switch.address), tuple(nodes))
        with Fleet(root, Node("centre", switch.address), [idc], runtime="lxd") as fleet:
            fleet.start()
            box = root / "box.tar.gz"
            box.write_bytes(unified_image("box"))
            push(fleet.client, Reference.parse(IMAGE), open_lxd_image(box, None), lambda _digest, _held: None)
            yield World(fleet, machines)


def test_an_instance_moves_whoever_is_killed_at_every_stage(world: World) -> None:
    moved = world.run("vps", ONE)
    world.write(ONE, moved, "what it wrote")
    world.snapshot("POST", f"/api/v1/instances/{moved}/snapshots", {"name": "before"})
    source, target = ONE, OTHER
    for victims in ((ONE, OTHER), ("control-plane",)):
        began = _begin(world, moved, target)
        stage = _through(world, moved, began, victims)
        assert stage == "done", world.report()
        world.wait(lambda: world.row(moved)["phase"] == "running")
        assert (world.row(moved)["host"], world.there(source, moved)) == (target, [])
        assert world.read(target, moved) == "what it wrote"
        source, target = target, source
    listed = world.fleet.client.get(f"/api/v1/instances/{moved}/snapshots")["data"]
    assert [one["name"] for one in listed] == ["before"]
    _remove(world, moved)


def _begin(world: World, instance_id: str, target: str) -> str:
    made = world.fleet.client.post(f"/api/v1/instances/{instance_id}/migration", {"host": f"east/{target}"})["data"]
    return str(made["id"])


def _through(world: World, instance_id: str, move_id: str, victims: Sequence[str]) -> str:
    """The last stage. The victims are killed, and started again, whenever the move comes to another one."""
    seen: set[str] = set()
    deadline = time.monotonic() + 100
    while True:
        found = world.migration(instance_id)
        assert found["id"] == move_id
        running_ = [host for host in (ONE, OTHER) for one in world.there(host, instance_id) if one.status == "Running"]
        assert len(running_) <= 1, running_
        if found["stage"] in _ENDED:
            return str(found["stage"])
        if found["stage"] not in seen and found["stage"] in ("copying", "starting"):
            seen.add(found["stage"])
            for victim in victims:
                world.fleet.services[victim].kill()
            for victim in victims:
                world.fleet.services[victim].start()
        assert time.monotonic() < deadline, world.report()
        time.sleep(0.05)


def test_snapshots_and_an_export_of_a_running_instance(world: World, tmp_path: Path) -> None:
    kept = world.run("kept", OTHER)
    path = f"/api/v1/instances/{kept}/snapshots"
    world.write(OTHER, kept, "early")
    world.snapshot("POST", path, {"name": "first"})
    world.write(OTHER, kept, "late")
    world.snapshot("POST", f"{path}/first/restore")
    world.wait(lambda: world.row(kept)["phase"] == "running")
    assert world.read(OTHER, kept) == "early"
    answer = world.fleet.client.raw("GET", f"/api/v1/instances/{kept}/export?snapshots=true", read_seconds=BUSY_SECONDS)
    with tarfile.open(fileobj=io.BytesIO(answer.data)) as archive:
        names = archive.getnames()
    assert "backup/index.yaml" in names
    assert any(name.startswith("backup/snapshots/first") for name in names)
    world.snapshot("DELETE", f"{path}/first")
    assert world.fleet.client.get(path)["data"] == []
    _remove(world, kept)


def test_volumes_of_two_tenants_that_name_them_alike_are_two(world: World) -> None:
    world.fleet.client.post("/api/v1/tenants", {"name": "globex"})
    mounts = [{"volume": "data", "target": "/data"}]
    ours = world.run("files", ONE, mounts=mounts)
    theirs = world.run("files", ONE, tenant="globex", mounts=mounts)
    world.write(ONE, ours, "acme's", "/data/secret")
    with pytest.raises(NotFound):
        world.read(ONE, theirs, "/data/secret")
    again = world.run("more", ONE, mounts=mounts)
    assert world.read(ONE, again, "/data/secret") == "acme's"
    for one in (ours, theirs, again):
        _remove(world, one)


def _remove(world: World, instance_id: str) -> None:
    world.fleet.client.delete(f"/api/v1/instances/{instance_id}")
    world.wait(lambda: all(row["id"] != instance_id for row in world.fleet.instances()))
