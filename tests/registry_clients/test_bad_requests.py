"""What no client of ours sends, as bytes on the wire of the server as it is started: refused in time, and the next
request is answered.
"""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.control_plane.cli.programs import Plane, started
from tests.engines.fixtures import running
from tests.engines.postgresql import postgres_engine

pytestmark = [pytest.mark.engine("postgresql"), pytest.mark.processes]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """On PostgreSQL, which is stricter about texts."""
    with running("postgresql", postgres_engine()) as postgresql:
        environment = {"LONGSHORE_DATABASE__URL": postgresql.create_database("bad")}
        directory: Path = tmp_path_factory.mktemp("bad") / "data"
        plane = started(directory, environment=environment)
        yield plane
        plane.service.stop()


def status_of(plane: Plane, request: bytes) -> int:
    """0 if the connection was closed without a word."""
    host, _, port = plane.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        try:
            answer = connection.recv(64 << 10)
        except ConnectionResetError:
            return 0
    return int(answer.split(b" ", 2)[1]) if answer else 0


def basic(user: bytes, password: bytes) -> bytes:
    return b"Authorization: Basic " + base64.b64encode(user + b":" + password)


_LINES = {
    "a header of 64 KiB": b"X-Long: " + b"a" * (64 << 10),
    "ten thousand headers": b"\r\n".join(b"X-%d: 1" % n for n in range(10_000)),
    "a login with a NUL": basic(b"ad\0min", b"x"),
    "a login that is no UTF-8": basic(b"\xff\xfe", b"\xff"),
    "a login with a lone surrogate": basic("\ud800".encode("utf-8", "surrogatepass"), b"x"),
    "a login of 60 KB": basic(b"a" * 45_000, b"b"),
    "a login that is no base64": b"Authorization: Basic %%%%",
    "a token that is none": b"Authorization: Bearer " + b"a.b.c" * 100,
    "a token with a NUL key": b"Authorization: Bearer lk_\x00abc",
    "a token without algorithm": b"Authorization: Bearer eyJhbGciOiJub25lIn0.e30.",
    "an unknown scheme": b"Authorization: Digest x",
    "two lengths": b"Content-Length: 1\r\nContent-Length: 2",
    "a negative length": b"Content-Length: -1",
    "length and chunks": b"Content-Length: 3\r\nTransfer-Encoding: chunked",
    "a space before the colon": b"Host : x",
    "a folded header": b"X-A: b\r\n c",
    "a NUL in a header": b"X-A: \0",
}


@pytest.mark.parametrize("what", sorted(_LINES))
@pytest.mark.parametrize(
    "line", [b"GET /v2/", b"GET /v2/token", b"PUT /v2/acme/web/manifests/x", b"POST /v2/acme/web/blobs/uploads/"]
)
def test_headers_that_are_wrong(plane: Plane, line: bytes, what: str) -> None:
    status = status_of(plane, line + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + _LINES[what] + b"\r\n\r\n")
    assert status < 500
    assert httpx.get(f"{plane.url}/v2/").status_code == 401


@pytest.mark.parametrize(
    "target",
    [
        b"/v2/" + b"a/" * 30_000 + b"tags/list",
        b"/v2/%00/tags/list",
        b"/v2/%2e%2e/%2e%2e/etc/passwd",
        b"/v2/..%2f..%2fetc/tags/list",
        b"/v2/acme/web/blobs/sha256:..%2f..%2f..%2fx",
        b"/v2//",
        b"/v2/acme//web/tags/list",
        b"/v2/%ff%fe/tags/list",
        b"/v2/acme/web/tags/list?n=%ff&last=%00",
        b"/v2/token?service=longshore-registry&scope=" + b"repository:a/b:pull%20" * 2000,
        b"/v2/token?scope=%00&account=%00",
        b"*",
        b"http://elsewhere/v2/",
        b"/v2\\..\\x",
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"PATCH", b"BREW", b"CONNECT"])
def test_targets_that_are_wrong(plane: Plane, method: bytes, target: bytes) -> None:
    status = status_of(plane, method + b" " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status < 500
    assert httpx.get(f"{plane.url}/v2/").status_code == 401
