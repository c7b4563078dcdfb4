"""dockerd under test: both ways to run it, its faults, and what it leaves behind."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from tests.engines.dockerd import IMAGE, DockerEngine
from tests.engines.processes import wait_until
from tests.engines.skopeo import Skopeo


def test_a_container_in_the_namespace_answers_only_there(docker_engine: DockerEngine) -> None:
    with contextlib.closing(docker_engine.client()) as client:
        client.containers.run(
            IMAGE, ["httpd", "-f", "-p", "80", "-h", "/etc"], detach=True, ports={"80/tcp": ("127.0.0.1", 18080)}
        )
    inside = [*docker_engine.command_prefix, "/bin/busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:18080/passwd"]

    def answer(command: list[str]) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout

    assert wait_until(lambda: "root:x:0:0" in answer(inside), 10, 0.1)
    assert answer(inside[len(docker_engine.command_prefix) :]) == ""


def test_the_machines_forwarding_is_left_alone(docker_engine: DockerEngine, docker_host_engine: DockerEngine) -> None:
    links = subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout
    assert "docker0" not in links
    inside = subprocess.run([*docker_engine.command_prefix, "ip", "link"], capture_output=True, text=True, check=True)
    assert "docker0" in inside.stdout


def test_a_container_runs_without_a_network(docker_host_engine: DockerEngine) -> None:
    with contextlib.closing(docker_host_engine.client()) as client:
        assert client.containers.run(IMAGE, ["echo", "hello"], network_mode="none") == b"hello\n"


def test_a_killed_dockerd_comes_back_and_the_policy_always_is_kept(docker_engine: DockerEngine) -> None:
    # Without the trap, process 1 of the container ignores TERM, and the new dockerd waits 10 s for it to end.
    patient = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    with contextlib.closing(docker_engine.client()) as client:
        client.containers.run(
            IMAGE, patient, name="patient", detach=True, network_mode="none", restart_policy={"Name": "always"}
        )
    docker_engine.kill()
    docker_engine.start()

    def runs_again() -> bool:
        with contextlib.closing(docker_engine.client()) as client:
            return bool(client.containers.get("patient").status == "running")

    assert wait_until(runs_again, 30, 0.1)


def test_skopeo_copies_from_dockerd_to_a_layout(docker_host_engine: DockerEngine, skopeo: Skopeo) -> None:
    copied = skopeo.run(
        "copy", "--src-daemon-host", docker_host_engine.host, f"docker-daemon:{IMAGE}", "oci:layout:latest"
    )
    assert copied.returncode == 0, copied.stderr
    assert Path(skopeo.directory, "layout/index.json").exists()
