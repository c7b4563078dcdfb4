"""A whole control plane, as far as the fleet goes, on loopback: real TLS, real gRPC, real HTTP, a real outbox."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Any

import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from common.clock import Clock, SystemClock
from common.errors import Failure, Unauthenticated, Unavailable
from common.lifecycle import Lifecycle
from control_plane.cache.memory import MemoryCache
from control_plane.database import Database
from control_plane.database.relay import relay_forever
from control_plane.events.memory import MemoryEventBus
from control_plane.fleet import store
from control_plane.fleet.authority import ServerCertificates
from control_plane.fleet.conversation import Tempo
from control_plane.fleet.desired import AssignmentSnapshot, OrderSnapshot
from control_plane.fleet.host_looks import HostLooks
from control_plane.fleet.messages import AssignmentsChanged, OrdersChanged
from control_plane.fleet.routes import Advertised, build_router
from control_plane.fleet.service import Fleet, FleetOptions, Places, open_fleet
from control_plane.rpc.server import ServerIdentity
from control_plane.sealing import SealedBox
from control_plane.sealing.keyring import KeyRing
from control_plane.tenants.access import ANONYMOUS, Principal
from control_plane.web.errors import install_error_handlers
from proto.agent.v1 import agent_pb2
from proto.regional.v1 import regional_pb2

# Quick, but with room for a busy machine: three missed heartbeats are 1.65 s here.
TEMPO = Tempo(heartbeat_seconds=0.5, probe_seconds=1.0, poll_seconds=30.0, hello_seconds=2.0)
ADMIN = Principal("u-1", "root", platform_admin=True)
PUBLIC_KEY = (
    Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
)
PRINCIPALS = {"admin": ADMIN, "user": Principal("u-2", "uma")}


class Names:
    """The `Authorization` header is the name of a principal."""

    async def authenticate(self, authorization_header: str | None, client: str = "") -> Principal:
        if authorization_header is None:
            return ANONYMOUS
        if authorization_header not in PRINCIPALS:
            raise Unauthenticated("wrong credentials")
        return PRINCIPALS[authorization_header]


def sealer() -> SealedBox:
    return SealedBox(KeyRing({b"12345678": bytes(range(32))}))


@dataclass
class Desired:
    """What hosts should run and IDCs should hold, kept in memory; generations are those of the database."""

    database: Database
    wanted: dict[str, dict[str, agent_pb2.Assignment]] = field(default_factory=dict)
    ordered: dict[str, dict[tuple[str, str], regional_pb2.Order]] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    accepted: list[agent_pb2.InstanceReport] = field(default_factory=list)
    accepted_offences: list[agent_pb2.Offence] = field(default_factory=list)
    accepted_orders: list[regional_pb2.OrderReport] = field(default_factory=list)
    accepting: asyncio.Event = field(default_factory=asyncio.Event)
    failures: list[Failure] = field(default_factory=list)
    asked: int = 0

    async def assignments(
        self, host_id: str, held: Mapping[str, agent_pb2.Assignment] | None = None
    ) -> AssignmentSnapshot:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return AssignmentSnapshot(self.generations.get(host_id, 1), dict(self.wanted.get(host_id, {})))

    async def accept_reports(
        self,
        host_id: str,
        instances: Sequence[agent_pb2.InstanceReport],
        contents: Sequence[agent_pb2.ContentReport],
    ) -> None:
        await self.accepting.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.accepted.extend(instances)

    async def accept_offences(self, host_id: str, said: Sequence[agent_pb2.Offence]) -> None:
        self.accepted_offences.extend(said)

    async def orders(self, idc_id: str, regional_id: str) -> OrderSnapshot:
        return OrderSnapshot(self.generations.get(idc_id, 1), dict(self.ordered.get(idc_id, {})))

    async def accept_order_reports(self, regional_id: str, reports: Sequence[regional_pb2.OrderReport]) -> None:
        self.accepted_orders.extend(reports)

    async def assign(self, host_id: str, *, announce: bool = True, **instances: int | None) -> int:
        """Give the host's instances these spec generations, or take them away (None)."""
        async with self.database.transaction() as unit:
            self.generations |= await store.bump_assignments(unit.connection, [host_id])
            wanted = self.wanted.setdefault(host_id, {})
            for name, spec in instances.items():
                if spec is None:
                    wanted.pop(name, None)
                else:
                    wanted[name] = agent_pb2.Assignment(instance_id=name, generation=spec)
            if announce:
                await unit.announce(AssignmentsChanged(host_id))
        return self.generations[host_id]

    async def order(self, idc_id: str, *digests: str) -> int:
        async with self.database.transaction() as unit:
            generation = self.generations[idc_id] = await store.bump_orders(unit.connection, idc_id)
            self.ordered[idc_id] = {("t-1", digest): regional_pb2.Order(tenant_id="t-1") for digest in digests}
            await unit.announce(OrdersChanged(idc_id))
        return generation


class Plane:
    """Use as an async context manager; entering again after leaving is a restart with the same ports and database."""

    def __init__(
        self,
        database_url: str,
        *,
        clock: Clock | None = None,
        tempo: Tempo = TEMPO,
        bus: MemoryEventBus | None = None,
    ) -> None:
        self._database_url = database_url
        self.clock = clock or SystemClock()
        self._tempo = tempo
        self._addresses = ("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0")
        self.certificate_life = timedelta(hours=24)
        self.keys: dict[str, bytes] = {"k1": PUBLIC_KEY}
        self.bus = bus or MemoryEventBus()

    async def __aenter__(self) -> Plane:
        self._lifecycle = Lifecycle()
        await self._lifecycle.__aenter__()
        try:
            await self._start()
        except BaseException:
            await self._lifecycle.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._lifecycle.__aexit__(kind, error, traceback)

    async def _start(self) -> None:
        self.database = await self._lifecycle.enter(_opened(Database(self._database_url, self.clock)))
        self.desired = Desired(self.database)
        self.desired.accepting.set()
        self.looks = HostLooks(self.database, MemoryCache(self.clock))
        options = FleetOptions(self._tempo, self.certificate_life)
        self.registry = CollectorRegistry()
        self.fleet: Fleet = await open_fleet(
            self.database, self.bus, sealer(), self.clock, random.Random(7).random, options, self.registry
        )
        enrolment, attach, http = self._addresses
        listeners = self.fleet.listeners(
            Places(enrolment, attach),
            self.desired,
            self.desired,
            self._verifying_keys,
            self.desired.accept_offences,
            telling=self.looks,
        )
        for listener in listeners:
            await self._lifecycle.enter(listener)
        self.enrolment, self.attach = (listener.address for listener in listeners)
        self.http = await self._lifecycle.enter(_serving(self._application(), http))
        self._addresses = (self.enrolment, self.attach, self.http)
        self._lifecycle.spawn("relay", relay_forever(self.database, self.bus, 0.2))
        self._lifecycle.spawn("watch", self.fleet.watch.run())
        await self._lifecycle.enter(self.fleet)

    def _verifying_keys(self) -> Mapping[str, bytes]:
        return dict(self.keys)

    def _application(self) -> FastAPI:
        app = FastAPI()
        advertised = Advertised("0.1", self.fleet.authority.ca_pem, lambda: self.enrolment, lambda: self.attach)
        app.include_router(build_router(self.fleet.idcs, self.fleet.members, self.fleet.join_tokens, advertised))
        app.state.authenticator = Names()
        install_error_handlers(app)
        return app

    def server_identity(self) -> ServerIdentity:
        """What a listener with the plane's authority shows."""
        return ServerCertificates(self.fleet.authority, ["127.0.0.1"])()

    @property
    def url(self) -> str:
        return f"http://{self.http}"

    async def idc(self, name: str = "east") -> str:
        """Its id; made if need be."""
        with contextlib.suppress(Failure):
            await self.fleet.idcs.create(name)
        return (await self.fleet.idcs.get(name)).id

    async def join_token(self, kind: Any = "host", idc: str = "east", **more: Any) -> str:
        await self.idc(idc)
        wanted = {"name": None, "life": timedelta(minutes=10), "created_by": "root", **more}
        return (await self.fleet.join_tokens.make(kind, idc, **wanted)).text

    async def state(self, host: str) -> str:
        return (await self.fleet.members.get("host", host)).state


@contextlib.asynccontextmanager
async def _opened(database: Database) -> AsyncIterator[Database]:
    yield database
    await database.close()


@contextlib.asynccontextmanager
async def _serving(app: FastAPI, address: str) -> AsyncIterator[str]:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    host, _, port = address.rpartition(":")
    listening.bind((host, int(port)))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server._serve([listening]))
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        await serving


def unavailable() -> Unavailable:
    return Unavailable("the database is away", retry_after_seconds=0)
