"""nginx in front: we say who may have a content, nginx sends it, ranges and all."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from benchmarks.spread import make_blob
from common.digest import Digest
from control_plane.cli.image_source import BlobSource
from deploy.demo.fleet import Fleet, Idc, Node
from tests.engines.fixtures import running
from tests.engines.listeners import free_port
from tests.engines.nginx import Nginx, Sent, nginx_engine
from tests.engines.processes import wait_until
from tests.processes.fleets import held_digests, push_blob, request_everywhere, wait_verified

pytestmark = [pytest.mark.engine("nginx"), pytest.mark.processes, pytest.mark.timeout(120)]


@dataclass(frozen=True)
class Fronted:
    nginx: Nginx
    fleet: Fleet
    blob: BlobSource
    data: bytes
    token: str

    @property
    def path(self) -> str:
        return f"/v2/acme/front/blobs/{self.blob.digest}"

    def get(self, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        """As a client of nginx. Underscores in names of headers stand for hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.nginx.port, timeout=10)
        try:
            connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def get_blob(self, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        return self.get(self.path, Authorization=f"Bearer {self.token}", **headers)

    def sent(self, size: int) -> Sent:
        """What nginx wrote down of the blob when it had sent so much of it: a moment after the client had it."""
        found: list[Sent] = []

        def is_written() -> bool:
            # It names the internal location, not what the client asked for.
            hexadecimal = self.blob.digest.hex
            found[:] = [one for one in self.nginx.sent() if one.size == size and one.path.endswith(hexadecimal)]
            return bool(found)

        assert wait_until(is_written, 20), self.nginx.sent()
        return found[-1]


@pytest.fixture(scope="module")
def fronted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    root = tmp_path_factory.mktemp("fronted")
    port, behind = free_port(), free_port()
    environment = {
        "LONGSHORE_REGISTRY__X_ACCEL_PREFIX": "/internal/",
        "LONGSHORE_PUBLIC__URL": f"http://127.0.0.1:{port}",
        "LONGSHORE_BLOBS__DIRECTORY": str(root / "shared"),
    }
    idcs = [Idc("east", Node("regional-east"), (Node("east-1"),))]
    with Fleet(
        root / "fleet", Node("centre"), idcs, runtime="none", server_environment=environment, http_port=behind
    ) as fleet:
        blobs = root / "shared" / "blobs"
        with running("nginx", nginx_engine(port, f"127.0.0.1:{behind}", "/internal/", blobs)) as nginx:
            fleet.start()
            blob = make_blob(root / "blob", 6)
            push_blob(fleet, blob, "acme/front:1")
            token = str(fleet.client.post("/api/v1/api-keys", {"name": "front"})["data"]["key"])
            yield Fronted(nginx, fleet, blob, (root / "blob").read_bytes(), token)


def test_nginx_sends_a_blob_with_our_headers(fronted: Fronted) -> None:
    answer, body = fronted.get_blob()
    assert (answer.status, Digest.of(body)) == (200, fronted.blob.digest)
    assert answer.headers["Docker-Content-Digest"] == str(fronted.blob.digest)
    assert answer.headers["ETag"] == f'"{fronted.blob.digest}"'
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert "X-Accel-Redirect" not in answer.headers
    assert fronted.sent(len(fronted.data)).from_us == 0


@pytest.mark.parametrize(
    ("asked", "start", "end"), [("bytes=1000000-1999999", 1_000_000, 2_000_000), ("bytes=-77", -77, None)]
)
def test_nginx_sends_a_range(fronted: Fronted, asked: str, start: int, end: int | None) -> None:
    answer, body = fronted.get_blob(Range=asked)
    assert (answer.status, body) == (206, fronted.data[start:end])
    first = start % len(fronted.data)
    size = len(fronted.data)
    assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(body) - 1}/{size}"
    assert fronted.sent(len(body)).from_us == 0


def test_what_the_client_has_is_not_sent_again(fronted: Fronted) -> None:
    answer, body = fronted.get_blob(If_None_Match=f'"{fronted.blob.digest}"')
    assert (answer.status, body) == (304, b"")


def test_who_may_not_read_gets_nothing_through_nginx(fronted: Fronted) -> None:
    for headers in ({}, {"Authorization": "Bearer forged"}):
        answer, body = fronted.get(fronted.path, **headers)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith(f'Bearer realm="http://127.0.0.1:{fronted.nginx.port}/')
        assert len(body) < 1000
    answer, _ = fronted.get(f"/content/v1/{fronted.blob.digest}", Authorization="Bearer forged")
    assert answer.status == 401


def test_the_internal_location_is_closed_to_clients(fronted: Fronted) -> None:
    hexadecimal = fronted.blob.digest.hex
    answer, body = fronted.get(f"/internal/sha256/{hexadecimal[:2]}/{hexadecimal}")
    assert answer.status == 404
    assert len(body) < 1000


def test_an_idc_fetches_its_contents_from_nginx(fronted: Fronted) -> None:
    fleet = fronted.fleet
    request_everywhere(fleet, "acme/front:1")
    wait_verified(fleet, 60)
    assert fronted.blob.digest in held_digests(fleet.root / "east-1")

    def fetched() -> list[Sent]:
        return [sent for sent in fronted.nginx.sent() if sent.method == "GET" and sent.size > 100_000]

    assert wait_until(lambda: sum(sent.size for sent in fetched()) >= fronted.blob.size, 20)
    assert all(sent.from_us == 0 for sent in fetched())
    assert fleet.egress()["east"] >= fronted.blob.size
