"""One agent in one process over fake sources: a centre and regionals that fail on cue, peers in memory, an engine in
memory. Everything else is the real thing, on a real directory, so that a lab can be closed and opened again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.adoptions import Adoptions
from agent.allowance import Allowance
from agent.cache import ContentCache, free_bytes
from agent.content_http import ContentHttp
from agent.desired import DesiredBook
from agent.fetch import Fetcher
from agent.journal import Journal
from agent.ledger import Ledger
from agent.links import HostLinks
from agent.model import Assignment, ContainerSpec, Content, Effort, InstanceReport, Phase
from agent.offences import Offences
from agent.reconciler import Reconciler
from agent.reporter import Reporter
from agent.runtimes.memory import MemoryEngine, MemoryRuntimeDriver
from agent.seeding import Seeding
from agent.swarm_download import Patience
from agent.swarms import Swarms
from common.bittorrent import AGENT_FINGERPRINT, REGIONAL_FINGERPRINT, PeerSession, Torrent
from common.bittorrent.libtorrent import LibtorrentSession
from common.bittorrent.memory import MemorySwarm
from common.bittorrent.merkle import MerkleBuilder
from common.bittorrent.metainfo import Metainfo, build, parse
from common.clock import SystemClock
from common.content_statement import HEADER, sign, statement_of
from common.digest import Digest
from common.lifecycle import Lifecycle
from common.spreading.exchange import decode_question, encode_grant
from common.spreading.leases import Budget, LeaseBook, Shape
from proto.agent.v1 import agent_pb2
from proto.content.v1 import content_pb2

HOST = "host-1"
SALT = b"a tenant's secret salt"
PIECE = 64 << 10
KEY_ID = "k1"
SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_KEY = SIGNING_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
# Everything that takes seconds in life takes hundredths here.
HASTE = Patience(
    poll_seconds=0.01,
    regional_peer_seconds=0.05,
    range_seconds=0.1,
    give_up_seconds=0.3,
    fetching_seconds=60,
    reconnect_seconds=0.02,
    centre_seconds=0.05,
    batch_bytes=4 * PIECE,
)


def statement(encoded: bytes, tenant_id: str, key: Ed25519PrivateKey = SIGNING_KEY) -> str:
    metainfo = parse(encoded)
    return sign(statement_of(tenant_id, Digest.parse(f"sha256:{metainfo.name}"), metainfo), KEY_ID, key)


def metainfo_of(data: bytes, salt: bytes = SALT) -> Metainfo:
    builder = MerkleBuilder(PIECE)
    builder.update(data)
    return build(Digest.of(data).hex, *builder.finish(), PIECE, salt)


class FakeSource:
    """The content routes of a centre or a regional.

    refuse: status for every request. corrupt: what is sent is false. cut: send so many bytes of each answer and hang
    up. busy: so many requests are answered with 503 first, with `busy_code`. swarm: whether it knows metainfo. leases:
    whether it leases pieces; haste: how many seconds pass for them in one of ours.
    """

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.metainfos: dict[str, bytes] = {}
        self.sent: Counter[str] = Counter()
        self.tokens: set[str] = set()
        self.refuse = 0
        self.corrupt = False
        self.tenant_id = "tenant-1"
        self.cut = 0
        self.busy = 0
        self.busy_code = "still_fetching"
        self.leases = True
        self.haste = 1.0
        self.accusations: list[dict[str, object]] = []
        self.accused = "host/host-9"
        self.books: dict[str, LeaseBook] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self._runner: web.AppRunner | None = None
        self.url = ""
        self._port = 0

    def state(self, encoded: bytes) -> str:
        """The statement beside a metainfo; a test may put a lie in its place."""
        return statement(encoded, self.tenant_id)

    def hold(self, *contents: bytes, metainfo: bool = True) -> None:
        for data in contents:
            digest = str(Digest.of(data))
            self.contents[digest] = data
            if metainfo and len(data) >= 1 << 20:
                self.metainfos[digest] = metainfo_of(data).encoded

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/content/v1/{digest}", self._content)
        app.router.add_get("/content/v1/{digest}/metainfo", self._metainfo)
        app.router.add_post("/content/v1/{digest}/lease", self._lease)
        app.router.add_post("/content/v1/{digest}/offences", self._offence)
        self.add_routes(app.router)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """What a test's own source knows besides."""

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _refusal(self, request: web.Request) -> web.Response | None:
        self.tokens.add(request.headers["Authorization"].removeprefix("Bearer "))
        if self.refuse:
            problem = {"code": "token_expired", "detail": "the content token expired at 2026-01-01T00:00:00Z"}
            return web.json_response(problem, status=self.refuse)
        if self.busy:
            self.busy -= 1
            return web.json_response(
                {"code": self.busy_code, "detail": "busy"}, status=503, headers={"Retry-After": "0"}
            )
        if request.match_info["digest"] not in self.contents:
            return web.json_response({"code": "content_unknown", "detail": "no such content"}, status=404)
        return None

    async def _metainfo(self, request: web.Request) -> web.Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        encoded = self.metainfos.get(request.match_info["digest"])
        if encoded is None:
            return web.json_response({"code": "not_in_swarm", "detail": "too small"}, status=404)
        headers = {HEADER: self.state(encoded)}
        return web.Response(body=encoded, content_type="application/x-bittorrent", headers=headers)

    async def _lease(self, request: web.Request) -> web.Response:
        refusal = self._refusal(request) if self.leases else web.json_response({"code": "no_leases"}, status=500)
        if refusal is not None:
            return refusal
        digest = request.match_info["digest"]
        shape = Shape(len(self.contents[digest]), PIECE)
        book = self.books.setdefault(digest, LeaseBook(shape, Budget()))
        question = decode_question(await request.read(), shape.piece_count)
        grant = book.ask(question.peer, question, asyncio.get_running_loop().time() * self.haste)
        return web.Response(body=encode_grant(dataclasses.replace(grant, seconds=min(grant.seconds, 0.05))))

    async def _offence(self, request: web.Request) -> web.Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        self.accusations.append(await request.json())
        return web.json_response({"accused": self.accused})

    async def _content(self, request: web.Request) -> web.StreamResponse:
        await self.gate.wait()
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        digest = request.match_info["digest"]
        data = self.contents[digest]
        asked = request.http_range
        start, end = asked.start or 0, min(asked.stop or len(data), len(data))
        body = data[start:end]
        if self.corrupt:
            body = bytes(byte ^ 0xFF for byte in body[:16]) + body[16:]
        headers = {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}", "Content-Length": str(len(body))}
        response = web.StreamResponse(status=206, headers=headers)
        await response.prepare(request)
        part = body[: self.cut] if self.cut else body
        await response.write(part)
        self.sent[digest] += len(part)
        if len(part) < len(body):
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write_eof()
        return response


class NoTrust:
    """The fakes speak plain HTTP."""

    def __init__(self) -> None:
        self._unused = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def regional(self) -> ssl.SSLContext:
        return self._unused

    def centre(self) -> ssl.SSLContext:
        return self._unused


EFFORTS = {
    Effort.ORDINARY: content_pb2.EFFORT_UNSPECIFIED,
    Effort.LOWER: content_pb2.EFFORT_LOWER,
    Effort.PAUSED: content_pb2.EFFORT_PAUSED,
}


def message_of(assignment: Assignment) -> agent_pb2.Assignment:
    def content(one: Content) -> content_pb2.Content:
        return content_pb2.Content(
            digest=str(one.digest), size_bytes=one.size_bytes, media_type=one.media_type, token=one.token
        )

    return agent_pb2.Assignment(
        instance_id=assignment.instance_id,
        generation=assignment.generation,
        tenant_id=assignment.tenant_id,
        tenant=assignment.tenant,
        name=assignment.name,
        desired_state=getattr(agent_pb2, f"DESIRED_STATE_{assignment.desired_state.name}", 99),
        image=agent_pb2.Image(
            repository=assignment.image.repository,
            tag=assignment.image.tag,
            manifest=content(assignment.image.manifest),
            contents=[content(one) for one in assignment.image.contents],
        ),
        container=container_message(assignment.container),
        restart_nonce=assignment.restart_nonce,
        effort=EFFORTS[assignment.effort],
        adopt=agent_pb2.AdoptionWish(**dataclasses.asdict(assignment.adopt)) if assignment.adopt else None,
    )


def container_message(spec: ContainerSpec) -> agent_pb2.ContainerSpec:
    check = spec.health_check
    return agent_pb2.ContainerSpec(
        command=spec.command,
        entrypoint=spec.entrypoint,
        environment=dict(spec.environment),
        labels=dict(spec.labels),
        ports=[agent_pb2.PortMapping(**dataclasses.asdict(port)) for port in spec.ports],
        mounts=[agent_pb2.Mount(**dataclasses.asdict(mount)) for mount in spec.mounts],
        cpus=spec.cpus,
        memory_bytes=spec.memory_bytes,
        health_check=agent_pb2.HealthCheck(**dataclasses.asdict(check)) if check else None,
        stop_grace_seconds=spec.stop_grace_seconds,
        cpu_set=spec.cpu_set,
        disk_bytes=spec.disk_bytes,
        network=spec.network,
        hostname=spec.hostname,
        user=spec.user,
        working_dir=spec.working_dir,
        privileged=spec.privileged,
    )


@dataclass
class Lab:
    """`open()` starts an agent on `directory`; leaving it stops the agent as SIGTERM would."""

    directory: Path
    centre: FakeSource
    swarm: MemorySwarm = field(default_factory=MemorySwarm)
    engine: MemoryEngine = field(default_factory=MemoryEngine)
    regionals: Sequence[FakeSource] = ()
    free: Callable[[Path], int] = free_bytes
    limit_bytes: int = 0
    has_engine: bool = True
    patience: Patience = HASTE
    libtorrent: bool = False  # real BitTorrent instead of the memory swarm
    regional_peers: list[PeerSession] = field(default_factory=list)
    generation: int = 0
    allowance: Allowance = field(default_factory=Allowance)

    async def regional_seed(self, *contents: bytes) -> PeerSession:
        """The BitTorrent peer of a regional that holds these."""
        session = self.swarm.session(REGIONAL_FINGERPRINT)
        self.regional_peers.append(session)
        await self.seed(session, *contents)
        return session

    async def seed(self, session: PeerSession, *contents: bytes) -> None:
        for data in contents:
            metainfo = metainfo_of(data)
            folder = self.directory / f"peer-{session.listen_port}" / metainfo.name[:8]
            folder.mkdir(parents=True)
            (folder / metainfo.name).write_bytes(data)
            await session.add(Torrent(metainfo, folder, seed=True, trackers=["http://tracker/announce"]))

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Agent]:
        async with Lifecycle(stop_seconds=5) as lifecycle, aiohttp.ClientSession() as http:
            agent = Agent(self, lifecycle, http)
            await agent.start()
            yield agent
            agent.stopping = True


class Agent:
    def __init__(self, lab: Lab, lifecycle: Lifecycle, http: aiohttp.ClientSession) -> None:
        clock = SystemClock()
        self.lab = lab
        self.stopping = False
        self.lifecycle = lifecycle
        self.journal = Journal(lab.directory / "journal")
        self.book = DesiredBook(self.journal, lab.centre.url)
        self.book.swarm_bytes = 1 << 20
        self.ledger = Ledger(self.journal, clock, flush_seconds=0.05)
        self.reporter = Reporter(self.journal, clock, flush_seconds=0.05)
        self.cache = ContentCache(
            lab.directory / "content", limit_bytes=lab.limit_bytes, reserve_bytes=0, free=lab.free
        )
        self.session: PeerSession = (
            LibtorrentSession("127.0.0.1", 0, AGENT_FINGERPRINT) if lab.libtorrent else lab.swarm.session()
        )
        self.swarms = Swarms(self.session, lab.directory / "swarm")
        self.random = 0.1
        content_http = ContentHttp(http, NoTrust())
        self.links = HostLinks(self.session, self.swarms, self.book, clock)
        self.fetcher = Fetcher(
            self.cache,
            self.swarms,
            content_http,
            self.book,
            self.ledger,
            clock,
            lambda: self.random,
            lifecycle.spawn,
            patience=lab.patience,
            peer=str(id(self)),  # only tells the hosts apart
            links=self.links,
        )
        offences = Offences(self.swarms.key_of, self.book, content_http, self.reporter, clock, lifecycle.spawn)
        self.session.banned, self.fetcher.metainfo_refused = offences.banned, offences.metainfo_refused
        self.seeding = Seeding(self.book, self.cache, self.swarms, self.fetcher, clock, lambda: self.random)
        self.driver = MemoryRuntimeDriver(lab.engine, HOST)
        self.adoptions = Adoptions(self.journal, lambda: self.driver if lab.has_engine else None)
        self.reconciler = Reconciler(
            self.book,
            lambda: self.driver if lab.has_engine else None,
            self.fetcher,
            lambda: self.cache.held,
            self.ledger,
            self.reporter,
            clock,
            lambda: 0.02,  # short delays after failures
            poll_seconds=0.05,
            progress_seconds=0.02,
            adoptions=self.adoptions,
            allowance=lab.allowance,
        )
        self.reports: dict[str, InstanceReport] = {}

    async def start(self) -> None:
        for part in (self.book, self.ledger, self.reporter, self.adoptions):
            await part.load()
        await self.cache.open()
        if isinstance(self.session, LibtorrentSession):
            await self.session.start()
        await self.swarms.load()
        self.book.statements.replace_keys({KEY_ID: PUBLIC_KEY})
        self.book.changed = self.reconciler.wake
        await self.lifecycle.enter(self._records())

    def keep_links(self) -> None:
        self.lifecycle.spawn("links", self.links.run())

    def reconcile(self) -> None:
        """Start working; without it only what a test calls happens."""
        self.lifecycle.spawn("reconciler", self.reconciler.run())

    async def assign(self, *assignments: Assignment) -> None:
        self.lab.generation += 1
        message = agent_pb2.AssignmentSet(
            results_in=self.lab.generation, assignments=[message_of(one) for one in assignments]
        )
        await self.book.replace(message)

    async def introduce_regionals(self) -> None:
        endpoints = []
        for number, source in enumerate(self.lab.regionals):
            peers = self.lab.regional_peers[number : number + 1]
            endpoints.append(
                agent_pb2.RegionalEndpoint(
                    regional_id=f"regional-{number}",
                    content_url=source.url,
                    swarm_url=source.url,
                    peer_address=f"127.0.0.1:{peers[0].listen_port}" if peers else "",
                )
            )
        await self.book.regionals(agent_pb2.Regionals(endpoints=endpoints))

    def told(self) -> dict[str, InstanceReport]:
        """What the control plane would know by now, by instance."""
        while (batch := self.reporter.next_batch()) is not None:
            for report in batch.reports.values():
                if isinstance(report, InstanceReport):
                    self.reports[report.instance_id] = report
            self.reporter.acknowledged(batch.sequence)
        return self.reports

    async def until(self, instance_id: str, phase: Phase, seconds: float = 30) -> InstanceReport:
        try:
            async with asyncio.timeout(seconds):
                while True:
                    report = self.told().get(instance_id)
                    if report is not None and report.phase is phase:
                        return report
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"{instance_id} never became {phase}: {self.reports.get(instance_id)}") from None

    @contextlib.asynccontextmanager
    async def _records(self) -> AsyncIterator[None]:
        self.lifecycle.spawn("ledger", self.ledger.flush_forever())
        self.lifecycle.spawn("reports journal", self.reporter.flush_forever())
        yield
        await self.session.close()
        if self.stopping:
            await self.ledger.flush()
            await self.reporter.flush()
