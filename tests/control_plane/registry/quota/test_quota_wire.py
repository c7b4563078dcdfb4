"""A refused upload on a real socket: the client reads the 403, whatever it is still sending."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette

from common.clock import SystemClock
from common.digest import Digest
from control_plane.blobs.filesystem import FilesystemBlobStore
from control_plane.database import Database
from control_plane.registry.quota.model import Limits
from control_plane.registry.routes import build_routes
from control_plane.registry.v2 import Options
from control_plane.web.zero_copy import ZeroCopyProtocol
from tests.control_plane.registry.people import Credentials
from tests.control_plane.registry.quota.quotas import Ward, open_ward
from tests.engines.skopeo import Skopeo
from tests.pace import BUSY_SECONDS
from tests.registry_clients.layouts import write_image

LIMIT = 3_000_000
BODY = b"0123456789abcdef" * (1 << 16) * 24  # 24 MiB: far more than sockets hold
ADA = {"Authorization": "Bearer ada"}


class Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(frozen=True)
class Site:
    ward: Ward
    port: int
    root: Path

    def pending(self) -> list[Path]:
        return list((self.root / "uploads").iterdir())


@pytest.fixture
async def site(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    """With a limit of 3 MB for acme."""
    clock, people = SystemClock(), Credentials()
    database, blobs = Database(sqlite_url, clock), FilesystemBlobStore(tmp_path / "blobs", reserve_bytes=0)
    ward = open_ward(database, blobs, clock)
    await ward.limit(Limits(storage_bytes=LIMIT))
    listener = socket.create_server(("127.0.0.1", 0))
    application = Starlette(routes=build_routes(ward.registry, people, people, people, Options()))
    server = Server(uvicorn.Config(application, http=ZeroCopyProtocol, log_config=None, lifespan="off"))
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[listener]))
        try:
            yield Site(ward, listener.getsockname()[1], tmp_path / "blobs")
        finally:
            server.should_exit = True
    await blobs.close()
    await database.close()


Answer = tuple[int, dict[str, Any]]


def begun(connection: http.client.HTTPConnection) -> str:
    connection.request("POST", "/v2/acme/web/blobs/uploads/", headers=ADA)
    answer = connection.getresponse()
    answer.read()
    return str(answer.headers["Location"])


def answered(connection: http.client.HTTPConnection) -> Answer:
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())["errors"][0]


def in_one_patch(connection: http.client.HTTPConnection) -> Answer:
    """http.client sends the whole body before it looks for an answer."""
    connection.request("PATCH", begun(connection), BODY, ADA)
    return answered(connection)


def in_a_stream(connection: http.client.HTTPConnection) -> Answer:
    """As Docker does: no length."""
    pieces = (BODY[start : start + 65536] for start in range(0, len(BODY), 65536))
    connection.request("PATCH", begun(connection), pieces, ADA, encode_chunked=True)
    return answered(connection)


def in_one_post(connection: http.client.HTTPConnection) -> Answer:
    connection.request("POST", f"/v2/acme/web/blobs/uploads/?digest={Digest.of(BODY)}", BODY, ADA)
    return answered(connection)


def in_the_last_put(connection: http.client.HTTPConnection) -> Answer:
    connection.request("PUT", f"{begun(connection)}?digest={Digest.of(BODY)}", BODY, ADA)
    return answered(connection)


@pytest.mark.parametrize("push", [in_one_patch, in_a_stream, in_one_post, in_the_last_put])
async def test_the_client_reads_the_refusal_and_may_use_the_connection_on(
    site: Site, push: Callable[[http.client.HTTPConnection], Answer]
) -> None:
    def push_and_go_on() -> tuple[Answer, int]:
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
        refusal = push(connection)
        connection.request("GET", "/v2/", headers=ADA)
        after = connection.getresponse()
        after.read()
        connection.close()
        return refusal, after.status

    (status, error), after = await asyncio.to_thread(push_and_go_on)
    assert (status, error["code"], after) == (403, "DENIED", 200)
    assert "the storage quota of tenant acme is exceeded" in error["message"]
    assert error["detail"]["code"] == "quota_exceeded"
    assert (error["detail"]["limit"], error["detail"]["used"]) == (LIMIT, 0)
    assert error["detail"]["needed"] + error["detail"]["reserved"] > LIMIT
    assert site.pending() == []
    account = await site.ward.account()
    assert (account.used_bytes, account.reserved_bytes) == (0, 0)


async def test_who_waits_for_100_continue_is_refused_without_having_sent_a_byte(site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(
        f"POST /v2/acme/web/blobs/uploads/?digest={Digest.of(BODY)} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer ada\r\nContent-Length: {len(BODY)}\r\nExpect: 100-continue\r\n\r\n".encode()
    )
    async with asyncio.timeout(BUSY_SECONDS):
        assert await reader.readline() == b"HTTP/1.1 403 Forbidden\r\n"
    writer.close()
    await writer.wait_closed()


@pytest.mark.engine("skopeo")
async def test_skopeo_shows_what_is_full(site: Site, skopeo: Skopeo, tmp_path: Path) -> None:
    write_image(tmp_path / "large", layers=4, layer_bytes=1_500_000)
    write_image(tmp_path / "small", layers=1, layer_bytes=1_500_000)

    def copy(layout: str) -> tuple[int, str]:
        target = f"docker://127.0.0.1:{site.port}/acme/{layout}:1"
        flags = ("--dest-tls-verify=false", "--dest-creds=ada:secret")
        done = skopeo.run("copy", *flags, f"oci:{tmp_path / layout}", target)
        return done.returncode, done.stderr

    code, words = await asyncio.to_thread(copy, "large")
    assert code != 0
    assert "denied: the storage quota of tenant acme is exceeded" in words
    assert f"of {LIMIT} are used" in words
    await site.ward.limit(Limits(storage_bytes=8_000_000))
    assert (await asyncio.to_thread(copy, "small"))[0] == 0
    assert (await asyncio.to_thread(copy, "large"))[0] == 0
    await site.ward.check_exact()
