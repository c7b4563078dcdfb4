"""A centre over real HTTP whose faults are switches, and a regional's cache on a real directory with a real peer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.bittorrent import REGIONAL_FINGERPRINT
from common.bittorrent import metainfo as torrents
from common.bittorrent.libtorrent import LibtorrentSession
from common.bittorrent.merkle import MerkleBuilder
from common.bittorrent.metainfo import Metainfo
from common.byte_ranges import Validators, requested_span
from common.clock import SystemClock
from common.content_statement import HEADER, StatementVerifier, statement_of
from common.content_statement import sign as sign_statement
from common.content_token import ContentClaim, ContentVerifier, sign
from common.digest import Digest
from common.errors import Failure
from common.lifecycle import Lifecycle
from common.water_marks import WaterMarks
from regional.cache import Cache, build_cache
from regional.centre import Centre
from regional.directory import ContentDirectory
from regional.edge import Edge
from regional.metainfos import Metainfos
from regional.metrics import Metrics
from regional.model import ContentKey
from regional.seeding import Seeding
from regional.sending import Representation, send
from regional.serving import listening, watch
from regional.shelf import Shelf

KEY_ID = "k1"
PIECE = 256 << 10


@dataclass(frozen=True)
class Sample:
    """One content, and its metainfo in each tenant's swarm."""

    data: bytes
    digest: Digest

    def key(self, tenant: str = "acme") -> ContentKey:
        return ContentKey(self.digest, tenant)

    def metainfo(self, tenant: str = "acme") -> Metainfo:
        builder = MerkleBuilder(PIECE)
        builder.update(self.data)
        length, root, layer = builder.finish()
        return torrents.build(self.digest.hex, length, root, layer, PIECE, tenant.encode().ljust(16, b"-"))


def sample(size: int, seed: int = 1) -> Sample:
    data = random.Random(seed).randbytes(size)
    return Sample(data, Digest.of(data))


class Signer:
    """The control plane's signing key; `public` is what a Welcome carries."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.public = {KEY_ID: self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)}

    def token(self, key: ContentKey, bearer: str = "host/e1", seconds: float = 3600) -> str:
        expires_at = SystemClock().now() + timedelta(seconds=seconds)
        return sign(ContentClaim(bearer, "east", key.tenant_id, (key.digest,), expires_at), KEY_ID, self._key)

    def token_of_many(self, tenant_id: str, *digests: Digest, bearer: str = "host/e1") -> str:
        expires_at = SystemClock().now() + timedelta(hours=1)
        return sign(ContentClaim(bearer, "east", tenant_id, digests, expires_at), KEY_ID, self._key)

    def statement(self, key: ContentKey, metainfo: Metainfo) -> str:
        return sign_statement(statement_of(key.tenant_id, key.digest, metainfo), KEY_ID, self._key)

    def statements(self) -> StatementVerifier:
        verifier = StatementVerifier()
        verifier.replace_keys(self.public)
        return verifier

    def verifier(self) -> ContentVerifier:
        verifier = ContentVerifier(SystemClock())
        verifier.replace_keys(self.public)
        return verifier


@dataclass
class FakeCentre:
    """The centre's two content routes, with what can go wrong as switches."""

    signer: Signer
    contents: dict[Digest, bytes] = field(default_factory=dict)
    metainfos: dict[ContentKey, Metainfo] = field(default_factory=dict)
    url: str = ""
    # What was asked and sent.
    gets: list[tuple[Digest, str | None]] = field(default_factory=list)
    metainfo_gets: int = 0
    sent: dict[Digest, int] = field(default_factory=dict)
    # Switches.
    state: Callable[[ContentKey, Metainfo], str] = lambda _key, _metainfo: ""
    busy: tuple[int, str] | None = None
    metainfo_busy: tuple[int, str] | None = None
    refuse: set[str] = field(default_factory=set)
    cut_after: list[int] = field(default_factory=list)
    corrupt: Callable[[int], int | None] = lambda _get: None
    pause_at: int | None = None
    resume: asyncio.Event = field(default_factory=asyncio.Event)

    def publish(self, subject: Sample, *tenants: str) -> None:
        self.contents[subject.digest] = subject.data
        for tenant in tenants:
            self.metainfos[subject.key(tenant)] = subject.metainfo(tenant)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/content/v1/{digest}", self.content, allow_head=False),
            web.get("/content/v1/{digest}/metainfo", self.metainfo),
        ]

    async def metainfo(self, request: web.Request) -> web.Response:
        self.metainfo_gets += 1
        if self.metainfo_busy is not None:
            return _busy(self.metainfo_busy)
        key, refusal = self._key(request)
        if refusal is not None:
            return refusal
        if key.digest not in self.contents:
            return web.json_response({"code": "content_unknown"}, status=404)
        found = self.metainfos.get(key)
        if found is None:
            return web.json_response({"code": "not_in_swarm"}, status=404)
        headers = {HEADER: self.state(key, found)}
        return web.Response(body=found.encoded, content_type="application/x-bittorrent", headers=headers)

    async def content(self, request: web.Request) -> web.StreamResponse:
        key, refusal = self._key(request)
        header = request.headers.get("Range")
        self.gets.append((key.digest, header))
        if self.busy is not None:
            return _busy(self.busy)
        if refusal is not None:
            return refusal
        data = self.contents.get(key.digest)
        if data is None:
            return web.json_response({"code": "content_unknown"}, status=404)
        damaged = self.corrupt(len(self.gets))
        if damaged is not None:
            data = data[:damaged] + bytes([data[damaged] ^ 1]) + data[damaged + 1 :]
        span = requested_span(header, len(data))
        response = web.StreamResponse(status=206 if span else 200)
        body = data[span.start : span.end] if span else data
        if span:
            response.headers["Content-Range"] = span.content_range(len(data))
        response.content_length = len(body)
        await response.prepare(request)
        await self._send(request, response, key.digest, body)
        return response

    async def _send(self, request: web.Request, response: web.StreamResponse, digest: Digest, body: bytes) -> None:
        end = min(self.cut_after.pop(0), len(body)) if self.cut_after else len(body)
        step = 64 << 10
        for start in range(0, end, step):
            if self.pause_at is not None and self.sent.get(digest, 0) >= self.pause_at:
                await self.resume.wait()
            chunk = body[start : min(start + step, end)]
            await response.write(chunk)
            self.sent[digest] = self.sent.get(digest, 0) + len(chunk)
        if end < len(body) and request.transport is not None:
            request.transport.close()
            return
        await response.write_eof()

    def _key(self, request: web.Request) -> tuple[ContentKey, web.Response | None]:
        digest = Digest.parse(request.match_info["digest"])
        token = request.headers["Authorization"].removeprefix("Bearer ")
        try:
            claim = self.signer.verifier().verify(token, digest)
        except Failure:
            return ContentKey(digest, "nobody"), web.json_response({"code": "token_invalid"}, status=401)
        if token in self.refuse:
            return ContentKey(digest, claim.tenant_id), web.json_response({"code": "denied"}, status=403)
        return ContentKey(digest, claim.tenant_id), None


def _busy(answer: tuple[int, str]) -> web.Response:
    return web.Response(status=answer[0], headers={"Retry-After": answer[1]})


@dataclass
class Rig:
    """One regional's cache, wired as the daemon does it."""

    cache: Cache
    lifecycle: Lifecycle
    signer: Signer
    statements: StatementVerifier

    @property
    def directory(self) -> ContentDirectory:
        return self.cache.directory

    @property
    def shelf(self) -> Shelf:
        return self.cache.shelf

    @property
    def centre(self) -> Centre:
        return self.cache.centre

    @property
    def metainfos(self) -> Metainfos:
        return self.cache.metainfos

    @property
    def seeding(self) -> Seeding:
        return self.cache.seeding

    @property
    def edge(self) -> Edge:
        return self.cache.edge

    def token(self, subject: Sample, tenant: str = "acme") -> str:
        return self.signer.token(subject.key(tenant))

    async def hold(self, subject: Sample, tenant: str = "acme") -> None:
        await self.edge.hold(subject.key(tenant), self.token(subject, tenant))

    async def read(self, subject: Sample, tenant: str = "acme") -> bytes:
        """Everything, through a reader, as a route does."""
        async with await self.edge.open(subject.key(tenant), self.token(subject, tenant)) as reader:
            return await read_all(reader)


async def read_all(reader: Any) -> bytes:
    """A whole content through a real HTTP answer."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return await send(request, Representation(reader, Validators("x")))

    app = web.Application(middlewares=[watch(SystemClock(), Metrics())])
    app.router.add_get("/", answer)
    async with (
        listening(app, "127.0.0.1", 0) as port,
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}/") as response,
    ):
        response.raise_for_status()
        return await response.read()


Rigs = Callable[..., Any]


@pytest.fixture
def signer() -> Signer:
    return Signer()


@pytest.fixture
async def centre(signer: Signer) -> AsyncIterator[FakeCentre]:
    subject = FakeCentre(signer)
    subject.state = signer.statement
    app = web.Application()
    app.add_routes(subject.routes())
    async with listening(app, "127.0.0.1", 0) as port:
        subject.url = f"http://127.0.0.1:{port}"
        yield subject
        subject.resume.set()


@pytest.fixture
def rigs(centre: FakeCentre, signer: Signer, tmp_path: Path) -> Rigs:
    """Make a cache: `async with rigs(name, limit_bytes=...) as rig`. The same name: the same directory."""

    @asynccontextmanager
    async def make(
        name: str = "regional", *, limit_bytes: int = 0, high: float = 100, low: float = 100, directory: Any = None
    ) -> AsyncIterator[Rig]:
        async with AsyncExitStack() as stack:
            clock, chance = SystemClock(), random.Random(3).random
            http = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
            session = await stack.enter_async_context(LibtorrentSession("127.0.0.1", 0, REGIONAL_FINGERPRINT))
            lifecycle = await stack.enter_async_context(Lifecycle())
            statements = signer.statements()
            disk = directory or ContentDirectory(tmp_path / name)
            cache = build_cache(
                disk, http, centre.url, session, clock, chance, lifecycle.spawn, statements,
                identity_dir=tmp_path / "identity", marks=WaterMarks(limit_bytes, high_percent=high, low_percent=low),
            )  # fmt: skip
            # What a centre with this threshold would say: the tests' contents are swarmed though they are small.
            cache.edge.swarm_bytes = 1 << 20
            await cache.edge.start()
            yield Rig(cache, lifecycle, signer, statements)

    return make


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Poll: for states that announce themselves to nobody."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
