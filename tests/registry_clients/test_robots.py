"""Robots log in with docker, podman and skopeo by their name with slashes, and push what their scopes say."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.engines.dockerd import IMAGE, DockerEngine
from tests.engines.podman import Podman
from tests.engines.skopeo import Skopeo
from tests.registry_clients.layouts import write_image
from tests.registry_clients.serving import ServedRegistry

ROBOT = "robot/acme/ci"


@pytest.mark.engine("skopeo")
def test_skopeo_pushes_as_a_robot(skopeo: Skopeo, served: ServedRegistry, tmp_path: Path) -> None:
    write_image(tmp_path / "in")
    for name, works in (("acme/ci-web", True), ("acme/web", False), ("birch/ci-web", False)):
        done = skopeo.run(
            "copy",
            "--dest-tls-verify=false",
            f"--dest-creds={ROBOT}:secret",
            f"oci:{tmp_path / 'in'}",
            f"docker://{served.address}/{name}:1",
        )
        assert (done.returncode == 0) is works, done.stderr


@pytest.mark.engine("podman")
def test_podman_logs_in_as_a_robot(podman: Podman, served: ServedRegistry) -> None:
    done = podman.run("login", "--tls-verify=false", f"--username={ROBOT}", "--password=secret", served.address)
    assert "Login Succeeded" in done.stdout, done.stderr


@pytest.mark.engine("docker")
def test_docker_logs_in_and_pushes_as_a_robot(docker_host_engine: DockerEngine, served: ServedRegistry) -> None:
    with contextlib.closing(docker_host_engine.client()) as client:
        assert client.login(ROBOT, "secret", registry=served.address, reauth=True)["Status"] == "Login Succeeded"
        name = f"{served.address}/acme/ci-busybox"
        assert client.images.get(IMAGE).tag(name, "1")
        credentials = {"username": ROBOT, "password": "secret"}
        events = client.images.push(name, "1", auth_config=credentials, stream=True, decode=True)
        assert [event["error"] for event in events if "error" in event] == []
        client.images.remove(f"{name}:1")
