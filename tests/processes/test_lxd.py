"""The main job on a real LXD: an exported image that was pushed becomes a running system container, and stays one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pylxd import Client

from common.reference import Reference
from control_plane.cli.lxd_image import open_lxd_image
from control_plane.cli.push import push
from deploy.demo.fleet import Fleet, Idc, Node
from tests.engines.lxd import LxdEngine
from tests.engines.lxd_image import metadata_tarball, root_tarball
from tests.processes.fleets import remove_everything

pytestmark = [pytest.mark.processes, pytest.mark.engine("lxd"), pytest.mark.timeout(150)]


class Job:
    def __init__(self, fleet: Fleet, engine: LxdEngine) -> None:
        self.fleet = fleet
        self.engine = engine

    @property
    def lxd(self) -> Client:
        return self.engine.client()

    def instances(self) -> list[dict[str, Any]]:
        return list(self.lxd.api.instances.get(params={"recursion": 1}).json()["metadata"])

    def wait_phase(self, phase: str) -> None:
        self.wait(lambda: [row["phase"] for row in self.fleet.instances()] == [phase])

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.report()
            time.sleep(0.1)

    def report(self) -> str:
        return json.dumps(self.fleet.instances(), indent=1) + self.fleet.services["east-1"].log_tail()


@pytest.fixture
def job(lxd_engine: LxdEngine, tmp_path: Path) -> Iterator[Job]:
    idcs = [Idc("east", Node("regional-east"), (Node("east-1"),))]
    with Fleet(tmp_path, Node("centre"), idcs, runtime="lxd", lxd_socket=str(lxd_engine.socket)) as fleet:
        fleet.start()
        yield Job(fleet, lxd_engine)


def test_a_pushed_image_becomes_a_system_container_that_outlives_everybody(job: Job, tmp_path: Path) -> None:
    (tmp_path / "metadata.tar.gz").write_bytes(metadata_tarball())
    (tmp_path / "rootfs.tar.gz").write_bytes(root_tarball())
    image = open_lxd_image(tmp_path / "metadata.tar.gz", tmp_path / "rootfs.tar.gz")
    push(job.fleet.client, Reference.parse("acme/system:1"), image, lambda _digest, _held: None)
    asked = {"tenant": "acme", "name": "box", "image": "acme/system:1", "all_hosts": True, "stop_grace_seconds": 2}
    job.fleet.client.post("/api/v1/instances", {**asked, "environment": {"COLOUR": "green"}, "memory_bytes": 64 << 20})
    job.wait_phase("running")

    (row,), (instance,) = job.fleet.instances(), job.instances()
    assert instance["status"] == "Running"
    assert instance["config"]["volatile.uuid"] == row["runtime_id"]
    assert instance["config"]["user.longshore.instance"] == row["id"]
    assert instance["config"]["environment.COLOUR"] == "green"
    assert instance["config"]["image.os"] == "busybox"
    assert instance["name"].startswith("ls-acme-box-")

    began = _first_process(job)
    job.fleet.services["east-1"].kill()
    job.engine.kill()
    job.engine.start()
    job.fleet.services["east-1"].start()
    job.fleet.client.post(f"/api/v1/instances/{row['id']}/stop")
    job.wait_phase("stopped")
    assert job.instances()[0]["status"] == "Stopped"
    job.fleet.client.post(f"/api/v1/instances/{row['id']}/start")
    job.wait_phase("running")
    assert job.instances()[0]["config"]["volatile.uuid"] == row["runtime_id"]
    assert _first_process(job) != began

    job.engine.reboot()
    job.engine.start()
    job.wait(lambda: [one["status"] for one in job.instances()] == ["Running"])
    remove_everything(job.fleet)
    assert job.instances() == []


def _first_process(job: Job) -> int:
    (instance,) = job.instances()
    return int(job.lxd.api.instances[instance["name"]].state.get().json()["metadata"]["pid"])
