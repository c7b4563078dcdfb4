"""The whole way of a channel in one process: real HTTP and WebSockets, real gRPC over mutual TLS, the agent's own desk;
only the container engine is the one in memory, and instances are told instead of stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from agent.channels.desk import ChannelDesk
from agent.runtimes import ContainerOrder
from agent.runtimes.memory import MemoryRuntimeDriver
from agent.runtimes.memory_engine import MemoryEngine
from common.clock import SystemClock
from common.digest import Digest
from common.errors import Failure, Unauthenticated
from common.lifecycle import Lifecycle
from control_plane.audit.model import Act
from control_plane.audit.service import AuditTrail
from control_plane.channels.assembly import Channels, build_channels
from control_plane.channels.exporting import build_router as export_router
from control_plane.channels.model import ChannelLimits
from control_plane.channels.routes import build_router
from control_plane.database import Database
from control_plane.fleet.service import Places
from control_plane.instances.model import (
    DesiredState,
    Holdings,
    ImageContent,
    Instance,
    InstanceImage,
    InstanceSpec,
    InstanceView,
    Status,
)
from control_plane.instances.reading import InstanceReading, require_visible, unknown
from control_plane.tenants.access import ANONYMOUS, Principal
from control_plane.web.errors import install_error_handlers
from tests.control_plane.fleet.edge import Edge
from tests.control_plane.fleet.plane import Plane, _serving
from tests.control_plane.instances.parts import PRINCIPALS

INSTANCE = "00000000-0000-7000-8000-0000000000aa"
MANIFEST = Digest.of(b"manifest")
LIMITS = ChannelLimits(open_seconds=3, idle_seconds=30, longest_seconds=60, check_seconds=0.2)


class Told(InstanceReading):
    """One instance of `acme`, on the host that was told."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.views: dict[str, InstanceView] = {}

    def put(self, host_id: str, host: str, clock: SystemClock, instance_id: str = INSTANCE) -> None:
        content = ImageContent(MANIFEST, 1, "application/json")
        image = InstanceImage("acme/web:1", "acme/web", "1", content, ())
        now = clock.now()
        instance = Instance(
            id=instance_id,
            tenant_id="t-acme",
            tenant="acme",
            host_id=host_id,
            idc_id="i-1",
            name="web",
            image=image,
            spec=InstanceSpec(),
            desired_state=DesiredState.RUNNING,
            generation=1,
            restart_nonce=0,
            created_at=now,
            updated_at=now,
        )
        self.views[instance_id] = InstanceView(instance, Status(), host, "east", Holdings())

    async def get(self, principal: Principal, instance_id: str) -> InstanceView:
        found = self.views.get(instance_id)
        require_visible(principal, "acme" if found else "nobody's", instance_id)
        if found is None:
            raise unknown(instance_id)
        return found


class Named:
    """The bearer token is the name of a principal; a test may take one away."""

    def __init__(self) -> None:
        self.gone: set[str] = set()

    async def authenticate(self, authorization_header: str | None, client: str = "") -> Principal:
        if authorization_header is None:
            return ANONYMOUS
        name = authorization_header.removeprefix("Bearer ")
        if name not in PRINCIPALS or name in self.gone:
            raise Unauthenticated("wrong credentials")
        return PRINCIPALS[name]


class Trail(AuditTrail):
    """What was recorded, for a look at it."""

    acts: list[Act]

    def __init__(self, database: Database) -> None:
        super().__init__(database, SystemClock())
        self.acts = []

    def record(self, unit: Any, *acts: Act) -> None:
        super().record(unit, *acts)
        self.acts.extend(acts)


class ChannelPlane(Plane):
    """A control plane that also has channels."""

    limits = LIMITS

    async def _start(self) -> None:
        await super()._start()
        self.told, self.names, self.trail = Told(self.database), Named(), Trail(self.database)
        self.channels: Channels = build_channels(
            self.database,
            self.bus,
            self.fleet,
            self.told,
            self.trail,
            self.clock,
            random.Random(1).random,
            self.limits,
            CollectorRegistry(),
        )
        # A listener of its own: the fleet's were started before there were channels.
        _, listener = self.fleet.listeners(
            Places("127.0.0.1:0", "127.0.0.1:0"),
            self.desired,
            self.desired,
            self._verifying_keys,
            self.desired.accept_offences,
            [self.channels.register],
        )
        await self._lifecycle.enter(listener)
        self.channels.service.address = lambda: listener.address
        self._lifecycle.spawn("channels", self.channels.run())
        app = FastAPI()
        app.state.authenticator = self.names
        install_error_handlers(app)
        self.refusals: list[Failure] = []

        async def refused(scope: Any, failure: Failure) -> None:
            self.refusals.append(failure)

        app.include_router(build_router(self.channels.service, self.clock, None, refused))
        app.include_router(export_router(self.channels.service))
        self.api = await self._lifecycle.enter(_serving(app, "127.0.0.1:0"))
        await self._lifecycle.enter(self.channels)


@dataclass
class Host:
    """An attached agent: its attachment is the tests' own, its desk the real one."""

    edge: Edge
    engine: MemoryEngine = field(default_factory=MemoryEngine)
    lifecycle: Lifecycle = field(default_factory=Lifecycle)

    def __post_init__(self) -> None:
        self.orders: list[Any] = []
        self.deaf = False

    async def open(self) -> None:
        self.driver = MemoryRuntimeDriver(self.engine, self.edge.id)
        self.engine.images.add(MANIFEST)
        order = ContainerOrder("web", INSTANCE, 1, "spec", MANIFEST)
        self.container = await self.driver.create(order)
        await self.driver.start(self.container)

        async def usual() -> str:
            return self.edge.plane.attach

        self.desk = ChannelDesk(lambda: self.driver, self.edge.directory, usual, self.lifecycle.spawn)
        await self.desk.clear()

    def hear(self, message: Any) -> None:
        if message.WhichOneof("body") == "open_channel":
            self.orders.append(message.open_channel)
            if not self.deaf:
                self.desk.asked(message.open_channel)

    async def killed(self) -> None:
        """All that runs for channels ends, as when the process does."""
        await self.lifecycle.__aexit__(None, None, None)


@contextlib.asynccontextmanager
async def host_of(plane: Plane, directory: Path, name: str = "e1") -> AsyncIterator[Host]:
    edge = Edge(plane, directory / name)
    await edge.enrol(await plane.join_token(), name)
    host = Host(edge)
    await host.open()
    heard = edge.received

    class Hearing(list[Any]):
        def append(self, message: Any) -> None:
            super().append(message)
            host.hear(message)

    edge.received = Hearing(heard)
    async with host.lifecycle, edge.attached():
        yield host


@dataclass
class Client:
    """Somebody at the API."""

    plane: ChannelPlane
    http: aiohttp.ClientSession
    name: str | None = "operator"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.name}"} if self.name else {}

    def logs(self, accept: str = "text/plain", instance: str = INSTANCE, **query: Any) -> Any:
        url = f"http://{self.plane.api}/api/v1/instances/{instance}/logs"
        params = {key: str(value).lower() if isinstance(value, bool) else value for key, value in query.items()}
        return self.http.get(url, params=params, headers={**self.headers, "Accept": accept})

    def export(self, instance: str = INSTANCE, **query: Any) -> Any:
        url = f"http://{self.plane.api}/api/v1/instances/{instance}/export"
        params = {key: str(value).lower() for key, value in query.items()}
        return self.http.get(url, params=params, headers=self.headers)

    def socket(self, what: str = "exec", instance: str = INSTANCE, **more: Any) -> Any:
        url = f"ws://{self.plane.api}/api/v1/instances/{instance}/{what}"
        return self.http.ws_connect(url, headers={**self.headers, **more.pop("headers", {})}, **more)

    @contextlib.asynccontextmanager
    async def running(self, *command: str, **start: Any) -> AsyncIterator[Any]:
        """A socket whose command runs."""
        async with self.socket() as socket:
            await socket.send_json({"type": "start", "command": list(command), **start})
            assert (await socket.receive_json(timeout=10)) == {"type": "opened"}
            yield socket


async def heard(socket: Any, seconds: float = 10) -> tuple[bytes, bytes, dict[str, Any]]:
    """Both outputs and the last word."""
    outputs = {1: b"", 2: b""}
    async with asyncio.timeout(seconds):
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                outputs[message.data[0]] += message.data[1:]
            else:
                word = message.json()
                if word["type"] not in ("credit", "opened"):
                    return outputs[1], outputs[2], word
    raise AssertionError(f"the socket was closed without a last word: {socket.close_code}")
