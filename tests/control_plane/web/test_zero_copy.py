"""The kernel sends what it is told to, in order, whole, and only to the connection that asked; on a real uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from common.digest import Digest
from control_plane.blobs.filesystem import FilesystemBlobStore
from control_plane.registry.serving import pieces_of, send_body, send_start
from control_plane.web.zero_copy import EXTENSION, ZeroCopyProtocol
from tests.pace import BUSY_SECONDS

DATA = os.urandom(9 << 20) + b"the end"


class Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):
        yield


@contextlib.asynccontextmanager
async def serving(application: ASGIApp) -> AsyncIterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(application, http=ZeroCopyProtocol, log_config=None, lifespan="off")
    server = Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True


@pytest.fixture
async def blob(tmp_path: Path) -> AsyncIterator[tuple[FilesystemBlobStore, Digest]]:
    store = FilesystemBlobStore(tmp_path)
    upload, digest = "0190a0a0-0000-7000-8000-000000000001", Digest.of(DATA)

    async def chunks() -> AsyncIterator[bytes]:
        yield DATA

    await store.create_upload(upload)
    await store.append(upload, 0, chunks())
    await store.commit(upload, digest)
    yield store, digest
    await store.close()


def sender(blob: tuple[FilesystemBlobStore, Digest], start: int, end: int, used: list[str]) -> ASGIApp:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message):
            used.append(message["type"])
            await send(message)

        async with blob[0].open(blob[1], len(DATA)) as reader:
            await send_start(noting, 200, {"Content-Length": str(end - start)})
            await send_body(receive, noting, end - start, pieces_of(scope, reader, start, end), 5.0)

    return application


async def ask(port: int, requests: int = 1, pause: float = 0.0) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * (requests - 1))
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    await asyncio.sleep(pause)
    answer = await reader.read()
    writer.close()
    return answer


def bodies(answer: bytes, length: int) -> list[bytes]:
    found = []
    while answer:
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        found.append(rest[:length])
        answer = rest[length:]
    return found


@pytest.mark.parametrize(("start", "end"), [(0, len(DATA)), (1, 2), (4 << 20, len(DATA) - 3), (0, (4 << 20) + 1)])
async def test_a_file_is_sent_by_the_kernel_and_arrives_whole(blob, start: int, end: int):
    used: list[str] = []
    async with serving(sender(blob, start, end, used)) as port:
        answer = await ask(port)
    assert bodies(answer, end - start) == [DATA[start:end]]
    assert EXTENSION in used
    assert "http.response.body" not in used


async def test_answers_of_pipelined_requests_keep_their_order(blob):
    async with serving(sender(blob, 0, len(DATA), [])) as port:
        answer = await ask(port, requests=3)
    assert bodies(answer, len(DATA)) == [DATA, DATA, DATA]


async def test_a_slow_client_gets_everything_and_others_do_not_wait_for_it(blob):
    async with serving(sender(blob, 0, len(DATA), [])) as port:
        slow = asyncio.ensure_future(ask(port, pause=0.5))
        quick = await asyncio.gather(*(ask(port) for _ in range(20)))
        assert not slow.done()
        assert bodies(await slow, len(DATA)) == [DATA]
    assert all(bodies(each, len(DATA)) == [DATA] for each in quick)


async def test_what_was_written_before_comes_before_the_file(blob):
    before = os.urandom(6 << 20)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        async with blob[0].open(blob[1], len(DATA)) as reader:
            await send_start(send, 200, {"Content-Length": str(len(before) + len(DATA))})
            await send({"type": "http.response.body", "body": before, "more_body": True})
            await send_body(receive, send, len(DATA), pieces_of(scope, reader, 0, len(DATA)), 5.0)

    async with serving(application) as port:
        answer = await ask(port, pause=0.2)
    assert bodies(answer, len(before) + len(DATA)) == [before + DATA]


async def test_a_client_that_goes_away_ends_the_request_and_leaks_no_descriptor(blob):
    ended = asyncio.Event()
    inner = sender(blob, 0, len(DATA), [])

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await inner(scope, receive, send)
        finally:
            ended.set()

    async with serving(application) as port:
        await ask(port)
        ended.clear()
        before = len(os.listdir("/proc/self/fd"))
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.1)
        writer.transport.abort()
        await asyncio.wait_for(ended.wait(), BUSY_SECONDS)
        for _ in range(100):
            if len(os.listdir("/proc/self/fd")) <= before:
                break
            await asyncio.sleep(0.02)
        assert len(os.listdir("/proc/self/fd")) <= before


async def test_a_client_that_takes_nothing_is_given_up(blob):
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        async with blob[0].open(blob[1], len(DATA)) as reader:
            await send_start(send, 200, {"Content-Length": str(len(DATA))})
            await send_body(receive, send, len(DATA), pieces_of(scope, reader, 0, len(DATA)), stall_seconds=0.2)

    async with serving(application) as port:
        answer = await ask(port, pause=1.0)
    assert len(answer) < len(DATA)


async def test_a_file_that_became_shorter_breaks_the_connection(blob, tmp_path: Path):
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        async with blob[0].open(blob[1], len(DATA)) as reader:
            path = await blob[0].local_path(blob[1], len(DATA))
            assert path is not None
            os.truncate(path, 5 << 20)
            await send_start(send, 200, {"Content-Length": str(len(DATA))})
            await send_body(receive, send, len(DATA), pieces_of(scope, reader, 0, len(DATA)), 5.0)

    async with serving(application) as port:
        answer = await ask(port)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert str(len(DATA)).encode() in head
    assert len(body) < len(DATA)
