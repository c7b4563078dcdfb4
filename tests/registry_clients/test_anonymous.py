"""Public repositories: skopeo and dockerd pull them without a login, and only them, and push nothing."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import docker
import pytest
from docker.errors import APIError

from tests.engines.dockerd import IMAGE, DockerEngine
from tests.engines.processes import wait_until
from tests.engines.skopeo import Skopeo
from tests.registry_clients.layouts import blobs_of, write_image
from tests.registry_clients.serving import ServedRegistry


def make_public(served: ServedRegistry, repository: str) -> None:
    with contextlib.closing(sqlite3.connect(served.root / "registry.db", timeout=10)) as connection, connection:
        connection.execute("UPDATE repositories SET visibility = 'public' WHERE name = ?", [repository])


def at(served: ServedRegistry, name: str) -> str:
    return f"docker://{served.address}/{name}"


@pytest.mark.engine("skopeo")
def test_skopeo_pulls_a_public_image_without_a_login(skopeo: Skopeo, served: ServedRegistry, tmp_path: Path) -> None:
    write_image(tmp_path / "in")
    source = f"oci:{tmp_path / 'in'}"
    for name in ("acme/open:1", "acme/closed:1"):
        pushed = skopeo.run("copy", "--dest-tls-verify=false", "--dest-creds=ada:secret", source, at(served, name))
        assert pushed.returncode == 0, pushed.stderr
    make_public(served, "acme/open")
    reading = ("--src-tls-verify=false", "--src-no-creds")
    pulled = skopeo.run("copy", *reading, at(served, "acme/open:1"), f"oci:{tmp_path / 'out'}:x")
    assert pulled.returncode == 0, pulled.stderr
    assert blobs_of(tmp_path / "out") == blobs_of(tmp_path / "in")
    listed = skopeo.run("list-tags", "--tls-verify=false", "--no-creds", at(served, "acme/open"))
    assert listed.returncode == 0, listed.stderr
    for name in ("acme/closed:1", "acme/absent:1"):
        refused = skopeo.run("copy", *reading, at(served, name), f"oci:{tmp_path / 'no'}:x")
        assert refused.returncode != 0
        assert "needs credentials" in refused.stderr or "unauthorized" in refused.stderr
    before = served.blob_files()
    write_image(tmp_path / "other", layers=2)
    refused = skopeo.run(
        "copy", "--dest-tls-verify=false", "--dest-no-creds", f"oci:{tmp_path / 'other'}", at(served, "acme/open:2")
    )
    assert refused.returncode != 0
    assert served.blob_files() == before


@pytest.mark.engine("docker")
def test_docker_pulls_a_public_image_without_a_login(docker_host_engine: DockerEngine, served: ServedRegistry) -> None:
    with contextlib.closing(docker_host_engine.client()) as client:
        name = f"{served.address}/acme/busybox"
        assert client.images.get(IMAGE).tag(name, "1")
        credentials = {"username": "ada", "password": "secret"}
        events = client.images.push(name, "1", auth_config=credentials, stream=True, decode=True)
        assert [event["error"] for event in events if "error" in event] == []
        image_id = client.images.get(IMAGE).id
        client.images.remove(f"{name}:1")
        with pytest.raises(APIError):
            client.images.pull(name, "1", auth_config={})
        make_public(served, "acme/busybox")
        # What the registry remembered of the refusal is over after its 5 seconds at most.
        pulled = eventually_pulled(client, name)
        assert pulled == image_id
        client.images.remove(f"{name}:1")


def eventually_pulled(client: docker.DockerClient, name: str) -> str:
    failure = ""

    def pulls() -> bool:
        nonlocal failure
        try:
            client.images.pull(name, "1", auth_config={})
        except APIError as error:
            failure = str(error)
            return False
        return True

    assert wait_until(pulls, 20), failure
    return str(client.images.get(f"{name}:1").id)
