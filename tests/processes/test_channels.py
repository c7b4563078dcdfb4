"""Logs, commands and terminals of a container on a real dockerd, through a real control plane and agent."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container

from agent.runtimes import LABEL_HOST
from common.reference import Reference
from control_plane.cli.image_source import open_image
from control_plane.cli.push import push
from deploy.demo.fleet import Fleet, Idc, Node
from tests.engines.busybox import root_file_system
from tests.engines.dockerd import DockerEngine

pytestmark = [pytest.mark.processes, pytest.mark.engine("docker"), pytest.mark.timeout(120)]

TALKER = "echo ready; echo oh >&2; i=0; while sleep 0.2; do i=$((i+1)); echo tick $i; done"
EAST = Idc("east", Node("regional-east"), (Node("east-1"),))


def eventually(condition: Callable[[], Any], what: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


@dataclass(frozen=True)
class Site:
    fleet: Fleet
    container: Container

    def longshore(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "control_plane.cli", "instance", *words]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "LONGSHORE_SERVER": self.fleet.url,
            "LONGSHORE_CREDENTIALS": str(self.fleet.root / "credentials.json"),
        }

    def __call__(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.longshore(*words), env=self.environment, input=stdin, capture_output=True, text=True, timeout=60
        )

    def processes(self) -> list[str]:
        return [row[-1] for row in self.container.top()["Processes"]]


@pytest.fixture(scope="module")
def site(_host_docker: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("fleet")
    engine: dict[str, Any] = {"runtime": "docker", "docker_host": _host_docker.host, "docker_network": "none"}
    with Fleet(root, Node("centre"), [EAST], **engine) as fleet, contextlib.closing(_host_docker.client()) as client:
        fleet.start()
        client.api.import_image_from_data(root_file_system(), repository="talker", tag="1")
        archive = root / "talker.tar"
        with archive.open("wb") as file:
            file.writelines(client.images.get("talker:1").save())
        push(fleet.client, Reference.parse("acme/talker:1"), open_image(archive, root), lambda _digest, _held: None)
        asked = {"tenant": "acme", "name": "talker", "image": "acme/talker:1", "all_hosts": True}
        fleet.client.post("/api/v1/instances", {**asked, "command": ["sh", "-c", TALKER], "stop_grace_seconds": 1})
        eventually(lambda: [row["phase"] for row in fleet.instances()] == ["running"], fleet.instances, 60)
        label = f"{LABEL_HOST}={fleet.services['east-1'].facts['host_id']}"
        (container,) = client.containers.list(filters={"label": label})
        yield Site(fleet, container)


def test_logs_come_from_the_container_and_are_followed(site: Site) -> None:
    said = site("logs", "talker")
    assert said.returncode == 0
    assert said.stdout.startswith("ready\ntick 1\n")
    assert said.stderr == "oh\n"
    assert len(site("logs", "--tail", "2", "talker").stdout.splitlines()) <= 2
    with subprocess.Popen(
        site.longshore("logs", "-f", "--tail", "1", "-t", "talker"), env=site.environment, stdout=subprocess.PIPE
    ) as following:
        assert following.stdout is not None
        lines = [following.stdout.readline() for _ in range(4)]
        following.terminate()
    assert all(b"Z tick " in line for line in lines)


def test_commands_run_inside_with_outputs_input_and_exit_codes(site: Site) -> None:
    said = site("exec", "-i", "-e", "A=b", "-u", "65534", "talker", "--", "sh", "-c", "id -u; echo $A >&2; cat; exit 9",
                stdin="typed\n")  # fmt: skip
    assert (said.returncode, said.stdout, said.stderr) == (9, "65534\ntyped\n", "b\n")
    sent = "".join(f"{number:07d}\n" for number in range(100_000))
    assert site("exec", "-i", "talker", "cat", stdin=sent).stdout == sent


def test_a_terminal_follows_our_size(site: Site) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (33, 101))
    command = site.longshore("exec", "-it", "talker", "sh", "-c", "echo begun; read x; stty size")
    os.set_blocking(ours, False)
    shown = b""

    def shows(text: bytes) -> bool:
        nonlocal shown
        with contextlib.suppress(BlockingIOError):
            shown += os.read(ours, 4096)
        return text in shown

    with subprocess.Popen(command, env=site.environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        try:
            eventually(lambda: shows(b"begun"), lambda: shown, 15)
            time.sleep(2.5)  # until nobody gives it its first size any more
            termios.tcsetwinsize(theirs, (20, 60))
            process.send_signal(signal.SIGWINCH)  # the terminal is not the one that controls the process
            time.sleep(0.5)  # the size is on its way, and nobody says when it has come
            os.write(ours, b"go\r")
            eventually(lambda: shows(b"20 60"), lambda: shown, 15)
            assert process.wait(20) == 0
        finally:
            process.kill()
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("victim", ["client", "agent"])
def test_nothing_runs_on_in_the_container_after_its_client_or_its_agent_was_killed(site: Site, victim: str) -> None:
    command = site.longshore("exec", "talker", "sh", "-c", "sleep 4321 & sleep 4321")
    process = subprocess.Popen(command, env=site.environment, stderr=subprocess.PIPE)
    eventually(lambda: sum("4321" in one for one in site.processes()) >= 2, site.processes)
    agent = site.fleet.services["east-1"]
    if victim == "client":
        process.kill()
    else:
        agent.kill()
        _, said = process.communicate(timeout=30)
        assert b"channel is gone" in said
        agent.start()
    eventually(lambda: not any("4321" in one for one in site.processes()), site.processes)
    process.wait(10)
    eventually(lambda: site("exec", "talker", "true").returncode == 0, agent.log_tail)


def test_a_container_that_goes_ends_what_is_followed(site: Site) -> None:
    (row,) = site.fleet.instances()
    with subprocess.Popen(
        [*site.longshore("logs", "-f", "talker"), "--json"], env=site.environment, stdout=subprocess.PIPE
    ) as following:
        assert following.stdout is not None
        following.stdout.readline()
        site.fleet.client.delete(f"/api/v1/instances/{row['id']}")
        *_, last = following.stdout
    assert json.loads(last) == {"end": {"code": "ended"}}
