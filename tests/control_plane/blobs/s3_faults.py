"""A gateway in front of a real S3 gateway that fails as object stores and networks do, one request a connection.

`rule` is asked before each request is passed on, with its method, its target and its number, and gives a `Fault` or
None. All requests are noted, so that a test can count them.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from tests.engines.ceph import S3Bucket
from tests.engines.processes import wait_until


class Fault(Enum):
    ERROR_500 = auto()
    SLOW_DOWN = auto()
    CUT_REQUEST = auto()  # the store sees half of it
    LOST_ANSWER = auto()  # the store did it, and nobody hears of it
    CUT_ANSWER = auto()  # the first half of the answer
    STALL = auto()  # nothing comes


Rule = Callable[[str, str, int], Fault | None]
_REFUSALS = {
    Fault.ERROR_500: (b"500 Internal Server Error", b"InternalError"),
    Fault.SLOW_DOWN: (b"503 Slow Down", b"SlowDown"),
}


def _never(_method: str, _target: str, _number: int) -> Fault | None:
    return None


@dataclass
class FaultyGateway:
    upstream: S3Bucket
    rule: Rule = _never
    requests: list[tuple[str, str]] = field(default_factory=list)
    faults: int = 0
    port: int = 0

    @property
    def bucket(self) -> S3Bucket:
        """The same bucket, through us."""
        return replace(self.upstream, endpoint=f"http://127.0.0.1:{self.port}")

    def count(self, method: str, part: str = "") -> int:
        return sum(1 for each, target in self.requests if each == method and part in target)

    async def serve(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await self._exchange(client, answer)
        finally:
            answer.close()

    async def _exchange(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        head = await client.readuntil(b"\r\n\r\n")
        lines = head[:-4].split(b"\r\n")
        method, target, _ = lines[0].decode().split(" ")
        headers = {line.split(b":", 1)[0].lower(): line.split(b":", 1)[1].strip() for line in lines[1:]}
        self.requests.append((method, target))
        fault = self.rule(method, target, len(self.requests))
        self.faults += fault is not None
        if fault in _REFUSALS:
            status, code = _REFUSALS[fault]
            body = b"<Error><Code>" + code + b"</Code><Message>as asked for</Message></Error>"
            length = str(0 if method == "HEAD" else len(body)).encode()
            answer.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: " + length + b"\r\n\r\n")
            answer.write(b"" if method == "HEAD" else body)
            await answer.drain()
            return
        if fault is Fault.STALL:
            await client.read()  # until the client gives up
            return
        if headers.pop(b"expect", None):
            answer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        kept = [line for line in lines[1:] if line.split(b":", 1)[0].lower() not in (b"expect", b"connection")]
        await self._pass(lines[0], kept, int(headers.get(b"content-length", 0)), client, answer, fault)

    async def _pass(
        self,
        first: bytes,
        headers: list[bytes],
        length: int,
        client: asyncio.StreamReader,
        answer: asyncio.StreamWriter,
        fault: Fault | None,
    ) -> None:
        port = int(self.upstream.endpoint.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"\r\n".join([first, *headers, b"Connection: close", b"", b""]))
            left = length // 2 if fault is Fault.CUT_REQUEST else length
            while left:
                piece = await client.read(min(left, 1 << 16))
                if not piece:
                    return
                left -= len(piece)
                writer.write(piece)
                await writer.drain()
            if fault is Fault.CUT_REQUEST:
                return
            await self._relay(reader, answer, fault)
        finally:
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, answer: asyncio.StreamWriter, fault: Fault | None) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if fault is Fault.LOST_ANSWER:
            await reader.read()
            return
        answer.write(head)
        left = 1 << 62
        if fault is Fault.CUT_ANSWER:
            sizes = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            left = int(sizes[0].split(b":")[1]) // 2 if sizes else 0
        while left and (piece := await reader.read(min(left, 1 << 16))):
            left -= len(piece)
            answer.write(piece)
            await answer.drain()


@contextlib.contextmanager
def faulty_gateway(upstream: S3Bucket) -> Iterator[FaultyGateway]:
    """In a thread with a loop of its own."""
    gateway, stop, loop = FaultyGateway(upstream), asyncio.Event(), asyncio.new_event_loop()

    async def run() -> None:
        server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0, limit=1 << 20)
        gateway.port = server.sockets[0].getsockname()[1]
        await stop.wait()
        server.close()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await asyncio.sleep(0.02)  # transports close in the turns of the loop that follow

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    assert wait_until(lambda: gateway.port > 0, 10)
    try:
        yield gateway
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
