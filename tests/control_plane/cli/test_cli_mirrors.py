"""Mirrors from the command line to the bytes: real servers, real clients, and kill -9 in the middle of a fetch."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from common.digest import Digest
from tests.control_plane.cli.programs import Longshore, Plane, log_in, started
from tests.control_plane.registry.mirroring.sites import proxied
from tests.control_plane.registry.remote.clients import push_image, talking_to
from tests.engines.docker_registry import PASSWORD, USERNAME, DockerRegistry
from tests.engines.skopeo import Skopeo
from tests.registry_clients.layouts import blobs_of, write_image

pytestmark = pytest.mark.processes

LAYER = random.Random(11).randbytes(20_000_000)


@pytest.fixture(scope="module")
def outgoing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A control plane that may connect to the registries of the tests."""
    environment = {"LONGSHORE_OUTBOUND__ALLOW": '["127.0.0.1"]'}
    running = started(tmp_path_factory.mktemp("outgoing") / "data", environment=environment)
    yield running
    running.service.stop()


@pytest.fixture(scope="module")
def owner(outgoing: Plane, tmp_path_factory: pytest.TempPathFactory) -> Longshore:
    program = Longshore(outgoing.url, tmp_path_factory.mktemp("owner"))
    assert log_in(program, "admin", outgoing.password).code == 0
    assert program("tenant", "create", "acme").code == 0
    return program


def test_a_mirror_is_declared_changed_and_ended(owner: Longshore, foreign_registry: DockerRegistry) -> None:
    made = owner("mirror", "create", "acme/hub", "docker.io/library", "--tag-ttl", "30", "--json").json
    assert (made["upstream_url"], made["has_credentials"]) == ("https://registry-1.docker.io", False)
    changed = owner("mirror", "update", "acme/hub", "-u", "someone", "--password-stdin", stdin="very secret\n")
    assert changed.code == 0
    shown = owner("mirror", "show", "acme/hub")
    assert "someone" in shown.out
    assert "very secret" not in shown.out + changed.out
    assert [row["name"] for row in owner("mirror", "list", "--tenant", "acme", "--json").json] == ["acme/hub"]
    assert owner("mirror", "create", "acme/hub/deeper", "quay.io").code == 6
    assert owner("mirror", "create", "nobody/hub", "quay.io").code == 5
    assert owner("mirror", "update", "acme/hub").code == 2
    assert owner("mirror", "rm", "acme/hub").code == 0
    assert owner("mirror", "show", "acme/hub").code == 5
    assert owner("mirror", "list", "--json").json == []


@pytest.mark.parametrize(
    "upstream",
    ["https://10.0.0.1", "http://169.254.169.254", "https://0x7f.1", "https://[::1]:5000", "ftp://x", "https://a:b@x"],
)
def test_a_mirror_of_an_inner_address_is_refused(owner: Longshore, upstream: str) -> None:
    assert owner("mirror", "create", "acme/inner", upstream).code in (2, 4)


def test_an_upstream_is_checked(owner: Longshore, guarded_foreign_registry: DockerRegistry, tmp_path: Path) -> None:
    engine = guarded_foreign_registry
    assert engine.tls is not None
    (tmp_path / "ca.pem").write_text(engine.tls.ca_pem)
    credentials = ("-u", USERNAME, "--password-stdin", "--ca-file", tmp_path / "ca.pem")
    assert owner("mirror", "create", "acme/guarded", engine.url, *credentials, stdin="wrong\n").code == 0
    failed = owner("mirror", "check", "acme/guarded")
    assert "does not let us in" in failed.err
    assert owner("mirror", "update", "acme/guarded", "-u", USERNAME, "--password-stdin", stdin=PASSWORD).code == 0
    assert owner("mirror", "check", "acme/guarded").code == 0
    assert owner("mirror", "rm", "acme/guarded").code == 0


@pytest.mark.engine("skopeo")
def test_skopeo_pulls_through_a_mirror(
    owner: Longshore, outgoing: Plane, foreign_registry: DockerRegistry, skopeo: Skopeo, tmp_path: Path
) -> None:
    write_image(tmp_path / "in", layers=4, layer_bytes=2_000_000)
    pushed = skopeo.run(
        "copy",
        "--dest-tls-verify=false",
        f"oci:{tmp_path}/in",
        f"docker://{foreign_registry.address}/library/web:1.4",
    )
    assert pushed.returncode == 0, pushed.stderr
    assert owner("mirror", "create", "acme/upstream", f"{foreign_registry.url}/library").code == 0
    address = outgoing.url.removeprefix("http://")
    for target in ("cold", "warm"):
        pulled = skopeo.run(
            "copy",
            "--src-tls-verify=false",
            f"--src-creds=admin:{outgoing.password}",
            f"docker://{address}/acme/upstream/web:1.4",
            f"oci:{tmp_path}/{target}:x",
        )
        assert pulled.returncode == 0, pulled.stderr
        assert blobs_of(tmp_path / target) == blobs_of(tmp_path / "in")
    listed = owner("image", "list", "--json").json
    assert [row["repository"] for row in listed] == ["acme/upstream/web"]
    assert owner("mirror", "rm", "acme/upstream").code == 0


async def test_a_server_that_is_killed_in_the_middle_of_a_fetch_serves_nothing_of_it(
    owner: Longshore, outgoing: Plane, foreign_registry: DockerRegistry
) -> None:
    async with talking_to(foreign_registry.url) as client, proxied(foreign_registry.port) as proxy:
        _, digest = await push_image(client, "library/killed", "1", (LAYER,))
        proxy.pause_at = 12_000_000
        assert (
            await asyncio.to_thread(owner, "mirror", "create", "acme/cut", f"http://127.0.0.1:{proxy.port}")
        ).code == 0
        blob = Digest.of(LAYER)
        url = f"{outgoing.url}/v2/acme/cut/library/killed/blobs/{blob}"
        headers = urllib3.make_headers(basic_auth=f"admin:{outgoing.password}")
        broken: list[BaseException] = []
        reading = threading.Thread(target=_read, args=(url, headers, broken))
        reading.start()
        await proxy.paused.wait()
        outgoing.service.kill()
        await asyncio.to_thread(reading.join)
        assert broken, "the client was told that it has the whole"
        stored = outgoing.service.data / "registry" / "blobs" / "sha256" / blob.hex[:2] / blob.hex
        assert not stored.exists()
        assert list((outgoing.service.data / "spool").iterdir()) == []
        proxy.go.set()
        await asyncio.to_thread(outgoing.service.start)
        answer = await asyncio.to_thread(urllib3.request, "GET", url, headers=headers, timeout=60)
        assert (answer.status, answer.data == LAYER) == (200, True)
        assert stored.exists()
        assert digest


def _read(url: str, headers: dict[str, str], broken: list[BaseException]) -> None:
    try:
        answer = urllib3.request("GET", url, headers=headers, retries=False, timeout=60)
        assert len(answer.data) == len(LAYER)
    except (urllib3.exceptions.HTTPError, AssertionError) as error:
        broken.append(error)
