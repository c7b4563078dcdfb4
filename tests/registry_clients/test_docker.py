"""dockerd pushes to us and pulls from us."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import docker
import pytest
from docker.errors import APIError

from tests.engines.dockerd import IMAGE, DockerEngine
from tests.registry_clients.serving import ServedRegistry

pytestmark = pytest.mark.engine("docker")

ADA = {"username": "ada", "password": "secret"}
VERA = {"username": "vera", "password": "secret"}


@pytest.fixture
def client(docker_host_engine: DockerEngine) -> Iterator[docker.DockerClient]:
    with contextlib.closing(docker_host_engine.client()) as opened:
        yield opened


def pushed(client: docker.DockerClient, name: str, tag: str, who: dict[str, str] = ADA) -> list[str]:
    """Errors of the push."""
    assert client.images.get(IMAGE).tag(name, tag)
    events = client.images.push(name, tag, auth_config=who, stream=True, decode=True)
    return [event["error"] for event in events if "error" in event]


def test_docker_logs_in(client: docker.DockerClient, served: ServedRegistry) -> None:
    assert client.login("ada", "secret", registry=served.address, reauth=True)["Status"] == "Login Succeeded"
    with pytest.raises(APIError):
        client.login("ada", "wrong", registry=served.address, reauth=True)


def test_docker_keeps_a_token_and_pulls_without_the_password(
    client: docker.DockerClient, served: ServedRegistry
) -> None:
    name = f"{served.address}/acme/kept"
    assert pushed(client, name, "1") == []
    client.images.remove(f"{name}:1")
    answer = client.login("vera", "secret", registry=served.address, reauth=True)
    assert answer["IdentityToken"] == "kept-vera"
    client.images.pull(name, "1", auth_config={"identitytoken": answer["IdentityToken"]})
    client.images.remove(f"{name}:1")


def test_docker_pulls_what_it_pushed(client: docker.DockerClient, served: ServedRegistry) -> None:
    name = f"{served.address}/acme/busybox"
    assert pushed(client, name, "1") == []
    before = client.images.get(IMAGE).id
    client.images.remove(f"{name}:1")
    pulled = client.images.pull(name, "1", auth_config=VERA)
    assert pulled.id == before
    client.images.remove(f"{name}:1")


def test_docker_mounts_what_another_repository_has(client: docker.DockerClient, served: ServedRegistry) -> None:
    first, second = f"{served.address}/acme/one", f"{served.address}/acme/two"
    assert pushed(client, first, "1") == []
    before = served.blob_files()
    assert pushed(client, second, "1") == []
    assert served.blob_files() == before
    for name in (first, second):
        client.images.remove(f"{name}:1")


def test_docker_is_told_what_it_may_not(client: docker.DockerClient, served: ServedRegistry) -> None:
    name = f"{served.address}/acme/busybox"
    errors = pushed(client, name, "2", VERA)
    assert errors
    assert "denied" in errors[0]
    assert served.blob_files() == []
    with pytest.raises(APIError) as refused:
        client.images.pull(f"{served.address}/acme/absent", "1", auth_config=VERA)
    assert "there is no repository" in str(refused.value)
    client.images.remove(f"{name}:2")
