"""kill -9 of the registry in the middle of a push: the client asks how far it got and goes on."""

from __future__ import annotations

import contextlib
import http.client
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.digest import Digest

pytestmark = pytest.mark.processes

DATA = random.Random(5).randbytes(24 << 20)
DIGEST = Digest.of(DATA)
LOGIN = {"Authorization": "Bearer ada"}


@contextlib.contextmanager
def registry_process(root: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.registry_clients.serving", str(root)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def ask(
    address: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request(method, path, body, LOGIN | (headers or {}))
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def test_an_upload_survives_kill_9_of_the_registry(tmp_path: Path) -> None:
    with registry_process(tmp_path) as (process, address):
        answer, _ = ask(address, "POST", "/v2/acme/web/blobs/uploads/")
        location = answer.headers["Location"]
        connection = http.client.HTTPConnection(address, timeout=30)
        connection.putrequest("PATCH", location)
        for name, value in {**LOGIN, "Content-Length": str(len(DATA)), "Content-Range": f"0-{len(DATA) - 1}"}.items():
            connection.putheader(name, value)
        connection.endheaders(DATA[: 10 << 20])
        process.send_signal(signal.SIGKILL)
        process.wait()
        connection.close()
    with registry_process(tmp_path) as (_, address):
        answer, _ = ask(address, "GET", location)
        assert answer.status == 204
        held = int(answer.headers["Upload-Offset"])
        assert 0 <= held <= 10 << 20
        rest = {"Content-Range": f"{held}-{len(DATA) - 1}"}
        answer, _ = ask(address, "PATCH", location, DATA[held:], rest)
        assert answer.status == 202
        answer, _ = ask(address, "PUT", f"{location}?digest={DIGEST}")
        assert answer.status == 201
    with registry_process(tmp_path) as (_, address):
        answer, body = ask(address, "GET", f"/v2/acme/web/blobs/{DIGEST}")
        assert answer.status == 200
        assert body == DATA
