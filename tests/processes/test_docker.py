"""The main job on real dockerd: an image that was pushed runs on every host, and goes on running whoever is killed.

Two agents, one of each data centre, share the one dockerd, as they may on a computer of a developer.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from agent.runtimes import LABEL_HOST, LABEL_INSTANCE
from common.digest import Digest
from common.reference import Reference
from control_plane.cli.image_source import open_image
from control_plane.cli.push import push
from deploy.demo.fleet import Fleet, Node
from deploy.demo.sample import build_sample
from deploy.demo.services import Service
from tests.engines.busybox import root_file_system
from tests.engines.dockerd import IMAGE, DockerEngine
from tests.processes.conftest import two_idcs
from tests.processes.fleets import remove_everything

pytestmark = [pytest.mark.processes, pytest.mark.engine("docker"), pytest.mark.timeout(150)]

HOSTS = ("east-1", "west-1")


@dataclass(frozen=True)
class Job:
    """A fleet with an image in its registry."""

    fleet: Fleet
    manifest: Digest
    docker: docker.DockerClient

    def run(self, name: str = "web", **more: Any) -> None:
        asked = {"tenant": "acme", "name": name, "image": "acme/web:1", "all_hosts": True, "stop_grace_seconds": 1}
        self.fleet.client.post("/api/v1/instances", {**asked, **more})

    def do(self, what: str) -> None:
        for row in self.fleet.instances():
            self.fleet.client.post(f"/api/v1/instances/{row['id']}/{what}")

    def host_id(self, host: str) -> str:
        return str(self.fleet.services[host].facts["host_id"])

    def containers(self) -> list[Container]:
        """Of this fleet, one a host, in the order of `HOSTS`."""
        return [one for host in HOSTS for one in self.containers_of(host)]

    def containers_of(self, host: str) -> list[Container]:
        label = f"{LABEL_HOST}={self.host_id(host)}"
        return list(self.docker.containers.list(all=True, filters={"label": label}))

    def wait_running(self, seconds: float = 60) -> None:
        def as_wished() -> bool:
            rows = self.fleet.instances()
            return len(rows) == len(HOSTS) and all((r["phase"], r["health"]) == ("running", "healthy") for r in rows)

        self.wait(as_wished, seconds)

    def wait_phase(self, phase: str) -> None:
        self.wait(lambda: {row["phase"] for row in self.fleet.instances()} == {phase})

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.report()
            time.sleep(0.1)

    def report(self) -> str:
        logs = "\n".join(f"{host}: {self.fleet.services[host].log_tail()}" for host in HOSTS)
        return json.dumps(self.fleet.instances(), indent=1) + logs


@pytest.fixture(scope="module")
def docker_fleet(_host_docker: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    root = tmp_path_factory.mktemp("fleet")
    engine: dict[str, Any] = {"runtime": "docker", "docker_host": _host_docker.host, "docker_network": "none"}
    with Fleet(root, Node("centre"), two_idcs(hosts=1), **engine) as fleet:
        fleet.start()
        sample = open_image(build_sample(root / "sample", 1).layout, root)
        manifest = push(fleet.client, Reference.parse("acme/web:1"), sample, lambda _digest, _held: None)
        with contextlib.closing(_host_docker.client()) as client:
            yield Job(fleet, manifest, client)


@pytest.fixture
def job(docker_fleet: Job, docker_host_engine: DockerEngine) -> Iterator[Job]:
    """The fixture `docker_host_engine` takes away the containers that the tests made themselves."""
    yield docker_fleet
    if not docker_host_engine.process.running:
        docker_host_engine.start()
    for service in docker_fleet.fleet.services.values():
        if not service.running:
            service.start()
    remove_everything(docker_fleet.fleet)


@pytest.fixture
def running(job: Job) -> Job:
    job.run()
    job.wait_running()
    return job


def started_at(container: Container) -> str:
    container.reload()
    return str(container.attrs["State"]["StartedAt"])


def test_a_pushed_image_runs_healthy_on_every_host(running: Job) -> None:
    rows = {row["host"]: row for row in running.fleet.instances()}
    assert set(rows) == set(HOSTS)
    for host in HOSTS:
        row, (container,) = rows[host], running.containers_of(host)
        assert (row["digest"], row["runtime_id"]) == (str(running.manifest), container.id)
        assert row["contents"]["verified"]
        assert container.labels[LABEL_INSTANCE] == row["id"]
        assert container.attrs["Config"]["Image"].endswith(f"/acme/web@{running.manifest}")
        assert container.attrs["State"]["Health"]["Status"] == "healthy"
        assert container.attrs["HostConfig"]["NetworkMode"] == "none"
        assert container.attrs["HostConfig"]["Privileged"] is False


def test_the_engine_took_the_image_from_an_agents_mirror_on_loopback(running: Job) -> None:
    (image,) = {container.image.id for container in running.containers()}
    names = set(running.docker.images.get(image).attrs["RepoDigests"])
    mirrors = {f"127.0.0.1:{running.fleet.services[host].facts['mirror']}" for host in HOSTS}
    assert names
    assert names <= {f"{mirror}/acme/web@{running.manifest}" for mirror in mirrors}


def test_what_is_stopped_exits_and_what_is_started_runs_again(running: Job) -> None:
    before = [container.id for container in running.containers()]
    running.do("stop")
    running.wait_phase("stopped")
    assert {container.status for container in running.containers()} == {"exited"}
    running.do("start")
    running.wait_running()
    assert [container.id for container in running.containers()] == before


def test_a_restart_starts_the_same_container_again(running: Job) -> None:
    containers = running.containers()
    before = [started_at(container) for container in containers]
    running.do("restart")
    running.wait(lambda: all(started_at(one) > then for one, then in zip(containers, before, strict=True)))
    running.wait_running()
    assert [container.id for container in running.containers()] == [container.id for container in containers]


def test_what_is_deleted_leaves_no_container_and_no_row(running: Job) -> None:
    remove_everything(running.fleet)
    assert running.containers() == []
    assert running.fleet.instances() == []


def test_asking_for_the_same_again_starts_nothing_again(running: Job) -> None:
    before = [(container.id, started_at(container)) for container in running.containers()]
    running.run()
    time.sleep(4)  # longer than an agent takes to look at its engine again
    assert [(container.id, started_at(container)) for container in running.containers()] == before


def test_containers_of_others_are_never_touched(job: Job) -> None:
    def foreign(name: str, labels: dict[str, str]) -> Container:
        return job.docker.containers.run(
            IMAGE, ["sleep", "1000"], name=name, labels=labels, detach=True, network_mode="none"
        )

    plain = foreign("plain", {})
    job.run()
    job.wait_running()
    ours = job.containers_of("east-1")[0]
    alike = foreign("alike", {**ours.labels, LABEL_HOST: "00000000-0000-7000-8000-000000000000"})
    before = [started_at(one) for one in (plain, alike)]
    for what in ("stop", "start", "restart"):
        job.do(what)
        job.wait_phase("stopped" if what == "stop" else "running")
    remove_everything(job.fleet)
    assert [started_at(one) for one in (plain, alike)] == before
    assert {plain.status, alike.status} == {"running"}


def test_a_killed_dockerd_comes_back_and_everything_runs_without_a_human(
    running: Job, docker_host_engine: DockerEngine
) -> None:
    before = [(container.id, started_at(container)) for container in running.containers()]
    docker_host_engine.kill()
    time.sleep(1)
    docker_host_engine.start()

    def run_again() -> bool:
        now = [(one.id, started_at(one), one.status) for one in running.containers()]
        return [(key, "running") for key, _ in before] == [(key, status) for key, _, status in now] and all(
            then < started for (_, then), (_, started, _) in zip(before, now, strict=True)
        )

    running.wait(run_again, 90)
    running.wait_running()


def test_an_agent_killed_while_it_creates_leaves_exactly_one_container(job: Job) -> None:
    job.run("warm")  # so that only creating and starting are left to be done
    job.wait_running()
    remove_everything(job.fleet)
    victim = job.fleet.services["east-1"]

    with kill_when_created(job, victim):
        job.run()
    victim.start()
    job.wait_running()
    assert [len(job.containers_of(host)) for host in HOSTS] == [1, 1]


def test_containers_run_on_while_the_control_plane_is_killed(running: Job) -> None:
    before = [started_at(container) for container in running.containers()]
    running.fleet.control_plane.kill()
    time.sleep(4)  # longer than an agent takes to look at its engine again
    assert [started_at(container) for container in running.containers()] == before
    assert {container.status for container in running.containers()} == {"running"}
    running.fleet.control_plane.start()
    running.wait_running()
    assert [started_at(container) for container in running.containers()] == before


def test_containers_run_on_while_their_agent_is_stopped(running: Job) -> None:
    before = [started_at(container) for container in running.containers()]
    for host in HOSTS:
        running.fleet.services[host].stop()
    assert {container.status for container in running.containers()} == {"running"}
    for host in HOSTS:
        running.fleet.services[host].start()
    running.do("stop")  # which they hear and obey: they are at work again
    running.wait_phase("stopped")
    assert [started_at(container) for container in running.containers()] == before


def test_a_stop_asked_for_while_the_agent_is_away_is_done_when_it_is_back(running: Job) -> None:
    running.fleet.services["east-1"].kill()
    running.do("stop")
    running.wait(lambda: running.containers_of("west-1")[0].status == "exited")
    assert running.containers_of("east-1")[0].status == "running"
    running.fleet.services["east-1"].start()
    running.wait_phase("stopped")
    assert running.containers_of("east-1")[0].status == "exited"


def test_the_demo_keeps_its_promises_and_leaves_nothing_in_the_engine(
    docker_host_engine: DockerEngine, tmp_path: Path
) -> None:
    with contextlib.closing(docker_host_engine.client()) as client:
        before = names_in(client)
        said = demo(docker_host_engine, tmp_path)
        assert len(re.findall(r"^(?:east|west)-\d .*100 % .* running, healthy$", said, re.MULTILINE)) == 4
        assert_proven(said)
        assert names_in(client) == before


@pytest.mark.parametrize("kind", ["name", "archive"])
def test_the_demo_runs_an_image_of_the_user(kind: str, docker_host_engine: DockerEngine, tmp_path: Path) -> None:
    with contextlib.closing(docker_host_engine.client()) as client:
        client.api.import_image_from_data(
            root_file_system(), repository="sleeper", tag="local", changes=['CMD ["sleep", "1000"]']
        )
        given = "sleeper:local"
        if kind == "archive":
            given = str(tmp_path / "sleeper.tar")
            with Path(given).open("wb") as file:
                file.writelines(client.images.get("sleeper:local").save())
        before = names_in(client)
        said = demo(docker_host_engine, tmp_path / "data", IMAGE=given)
        assert len(re.findall(r"^(?:east|west)-\d .*100 % .* running$", said, re.MULTILINE)) == 4
        assert_proven(said)
        assert names_in(client) == before


def test_the_demo_says_at_once_that_it_does_not_know_an_image(docker_host_engine: DockerEngine, tmp_path: Path) -> None:
    said = demo(docker_host_engine, tmp_path, exit_code=1, IMAGE="nowhere/nothing:1")
    assert "nowhere/nothing:1" in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("*.log"))


@contextlib.contextmanager
def kill_when_created(job: Job, victim: Service) -> Iterator[None]:
    """kill -9 `victim` as soon as the engine says that a container of its host was created: before it is started."""
    label = f"{LABEL_HOST}={job.host_id(victim.name)}"
    events = job.docker.events(decode=True, filters={"type": "container", "event": "create", "label": label})

    def watch() -> None:
        for _ in events:
            victim.kill()
            return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    yield
    watcher.join(30)
    events.close()
    assert not victim.running, job.report()


def demo(engine: DockerEngine, data: Path, exit_code: int = 0, **environment: str) -> str:
    """What `python -m deploy.demo` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy.demo"],
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "COLUMNS": "80",
            "DOCKER_HOST": engine.host,
            "DEMO_EXIT": "1",
            "DEMO_DATA": str(data),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert all(len(line.rstrip()) <= 80 for line in done.stdout.splitlines()), done.stdout
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())


def assert_proven(said: str) -> None:
    _, _, proof = said.partition("Proof\n")
    for idc in ("east", "west"):
        assert re.search(rf"^{idc} .* 1\.000 .* 2 of 2 +(\d+) of \1$", proof, re.MULTILINE), said


def names_in(client: docker.DockerClient) -> tuple[set[str], set[str]]:
    """Containers, and images by all their names."""
    images = client.images.list()
    named = {name for image in images for name in (image.attrs.get("RepoDigests") or []) + image.tags}
    return {str(one.id) for one in client.containers.list(all=True)}, named
