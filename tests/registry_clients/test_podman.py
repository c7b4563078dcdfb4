"""podman logs in, pushes to us and pulls from us."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.engines.podman import Podman
from tests.registry_clients.layouts import blobs_of, write_image
from tests.registry_clients.serving import ServedRegistry

pytestmark = pytest.mark.engine("podman")


def succeeded(done: CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def login(podman: Podman, served: ServedRegistry, user: str, password: str = "secret") -> CompletedProcess[str]:
    return podman.run("login", "--tls-verify=false", f"--username={user}", f"--password={password}", served.address)


def loaded(podman: Podman, layout: Path) -> str:
    """The id of the layout's image in podman's own store."""
    return succeeded(podman.run("pull", "--quiet", f"oci:{layout}"))


def test_podman_logs_in_and_a_wrong_password_is_refused(podman: Podman, served: ServedRegistry) -> None:
    refused = login(podman, served, "ada", "wrong")
    assert refused.returncode != 0
    assert "invalid username/password" in refused.stderr  # its own words for a 401
    assert "Login Succeeded" in succeeded(login(podman, served, "ada"))


def test_podman_pulls_what_it_pushed(podman: Podman, served: ServedRegistry, tmp_path: Path) -> None:
    write_image(tmp_path / "in", layers=3, layer_bytes=2_000_000)
    succeeded(login(podman, served, "ada"))
    image, name = loaded(podman, tmp_path / "in"), f"{served.address}/acme/pod:1"
    succeeded(podman.run("push", "--tls-verify=false", image, f"docker://{name}"))
    succeeded(podman.run("rmi", "--force", image))
    succeeded(login(podman, served, "vera"))
    assert succeeded(podman.run("pull", "--quiet", "--tls-verify=false", name)) == image
    succeeded(podman.run("save", "--quiet", "--format=oci-dir", f"--output={tmp_path / 'out'}", name))
    # The layers come back as podman compressed them; what they hold is named by the config, which is the same.
    assert image in blobs_of(tmp_path / "out")
    assert served.pending_uploads() == []


def test_podman_is_told_what_it_may_not(podman: Podman, served: ServedRegistry, tmp_path: Path) -> None:
    write_image(tmp_path / "in", layers=1)
    image = loaded(podman, tmp_path / "in")
    succeeded(login(podman, served, "vera"))
    refused = podman.run("push", "--tls-verify=false", image, f"docker://{served.address}/acme/pod:1")
    assert refused.returncode != 0
    assert "may not push" in refused.stderr
    assert served.blob_files() == []
