"""A registry of ours with mirrors, on a real socket; and upstreams that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import aiohttp
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from common.clock import SystemClock
from control_plane.blobs import BlobStore
from control_plane.blobs.filesystem import FilesystemBlobStore
from control_plane.cache import Cache
from control_plane.cache.memory import MemoryCache
from control_plane.database import Database
from control_plane.registry.mirroring.assembly import Mirroring, open_mirroring
from control_plane.registry.mirroring.service import MirrorPlan
from control_plane.registry.participants import Hooks
from control_plane.registry.remote.model import Patience
from control_plane.registry.routes import build_routes
from control_plane.registry.service import RegistryService
from control_plane.registry.signatures.gate import SignatureGate
from control_plane.registry.signatures.service import SignatureService
from control_plane.registry.v2 import Options
from control_plane.sealing import SealedBox
from control_plane.sealing.keyring import KeyRing
from control_plane.web.outbound import Outbound
from control_plane.web.outbound_addresses import AddressPolicy
from tests.control_plane.registry.people import ADA, Credentials, Directory

HASTY = Patience(tries=2, longest_wait_seconds=0.2, first_wait_seconds=0.01, idle_seconds=3, request_seconds=5)
HUB = "acme/hub"


class ShiftedClock(SystemClock):
    """The machine's clock, and a hand to move it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@dataclass(frozen=True)
class Site:
    """`http` speaks as Ada, an administrator of acme."""

    root: Path
    clock: ShiftedClock
    database: Database
    blobs: BlobStore
    registry: RegistryService
    mirroring: Mirroring
    signatures: SignatureService
    address: str
    http: aiohttp.ClientSession
    metrics: CollectorRegistry

    def counted(self, kind: str, outcome: str) -> float:
        labels = {"kind": kind, "outcome": outcome}
        return self.metrics.get_sample_value("longshore_mirror_requests_total", labels) or 0.0

    async def mirror(self, upstream: str, name: str = HUB, **more: object) -> None:
        plan = MirrorPlan(name, upstream, **{"tag_ttl_seconds": 60, **more})  # type: ignore[arg-type]
        await self.mirroring.service.create(ADA, plan)

    async def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        async with self.http.get(f"http://{self.address}/v2/{path}", headers=headers) as answer:
            return answer.status, await answer.read()

    async def head(self, path: str) -> tuple[int, str]:
        async with self.http.head(f"http://{self.address}/v2/{path}") as answer:
            return answer.status, answer.headers.get("Docker-Content-Digest", "")

    def spooled(self) -> list[Path]:
        return list((self.root / "spools").glob("*"))


@contextlib.asynccontextmanager
async def open_site(
    root: Path,
    sqlite_url: str,
    *,
    blobs: BlobStore | None = None,
    policy: AddressPolicy | None = None,
    cache: Cache | None = None,
) -> AsyncIterator[Site]:
    clock = ShiftedClock()
    database = Database(sqlite_url, clock)
    store = blobs or FilesystemBlobStore(root / "blobs", reserve_bytes=0)
    outbound = Outbound(policy or AddressPolicy.of(["127.0.0.1"]))
    tenants, people = Directory("acme", "birch"), Credentials()
    box = SealedBox(KeyRing.load_or_create(root / "keys"))
    shared = cache or MemoryCache(clock)
    chance = random.Random(3).random
    metrics = CollectorRegistry()
    mirroring = open_mirroring(database, tenants, box, outbound, clock, shared, root / "spools", chance, HASTY, metrics)
    gate = SignatureGate(database, store, tenants, clock, mirroring.pull_through)
    registry = RegistryService(
        database, store, tenants, clock, Hooks((gate,), gate=gate, upstreams=mirroring.pull_through)
    )
    signatures = SignatureService(database, tenants, registry.rights, gate, clock)
    mirroring.pull_through.attach(registry)
    application = Starlette(routes=build_routes(registry, people, people, people, Options()))
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        stack.push_async_callback(store.close)
        stack.push_async_callback(outbound.close)
        await stack.enter_async_context(mirroring.pull_through)
        address = await stack.enter_async_context(_listening(application))
        headers = {"Authorization": "Bearer ada"}
        http = await stack.enter_async_context(
            aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
        )
        yield Site(root, clock, database, store, registry, mirroring, signatures, address, http, metrics)


@contextlib.asynccontextmanager
async def _listening(application: Starlette) -> AsyncIterator[str]:
    config = uvicorn.Config(
        application, host="127.0.0.1", port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        await until(lambda: server.started)
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        server.should_exit = True


class Proxy:
    """TCP to a real registry. `cuts`: after how many bytes of answers each next connection breaks, if not at its end.
    `pause_at`: the byte of the answers before which everything waits until `go` is set.
    """

    def __init__(self, port: int) -> None:
        self.cuts: list[int] = []
        self.refusing = False
        self.connections = 0
        self.pause_at: int | None = None
        # The answer with this number is lost, with its connection, after the registry has acted.
        self.drop_answer: int | None = None
        self._answers = 0
        self.paused = asyncio.Event()
        self.go = asyncio.Event()
        self._upstream = port
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.refusing:
            writer.transport.abort()
            return
        left = self.cuts.pop(0) if self.cuts else None
        there, back = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(_copy(reader, back))
                await self._answer(there, writer, left)
                asking.cancel()
        except* OSError:
            pass
        finally:
            for each in (writer, back):
                each.transport.abort()

    async def _answer(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None) -> None:
        sent = 0
        while data := await there.read(16_384):
            if data.startswith(b"HTTP/1.1 "):
                self._answers += 1
                if self._answers - 1 == self.drop_answer:
                    return
            if left is not None and sent + len(data) >= left:
                writer.write(data[: left - sent])
                with contextlib.suppress(OSError):
                    await writer.drain()
                return
            if self.pause_at is not None and sent + len(data) > self.pause_at and not self.go.is_set():
                self.paused.set()
                await self.go.wait()
            writer.write(data)
            await writer.drain()
            sent += len(data)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@contextlib.asynccontextmanager
async def proxied(port: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(port)
    async with asyncio.TaskGroup() as group:
        serving: list[asyncio.Task[None]] = []

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            serving.append(group.create_task(proxy.serve(reader, writer)))

        server = await asyncio.start_server(accepted, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy
        server.close()
        for task in serving:
            task.cancel()


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  what is waited for is not ours
            await asyncio.sleep(0.005)
