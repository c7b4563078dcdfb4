"""A centre's `/v2/` over real HTTP, and a regional's in front of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from common.clock import ManualClock
from common.digest import Digest
from common.errors import NotFound, Unauthenticated, Unavailable
from regional.metrics import Metrics
from regional.serving import listening, watch
from regional.v2.assembly import EdgeRegistry
from regional.v2.rights import Granted

from .conftest import FakeCentre, Rig, Sample

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
REPOSITORY = "acme/web"
SERVICE = "registry.test"


def manifest_of(*layers: Sample) -> bytes:
    entries = [{"mediaType": "x/layer", "digest": str(each.digest), "size": len(each.data)} for each in layers]
    return json.dumps({"schemaVersion": 2, "mediaType": IMAGE, "layers": entries}).encode()


class Keys:
    """The centre's RS256 keys; `rotate` makes another."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._keys: dict[str, rsa.RSAPrivateKey] = {}
        self.rotate()

    def rotate(self) -> None:
        self._keys[f"k{len(self._keys)}"] = rsa.generate_private_key(65537, 2048)

    def jwks(self) -> dict[str, Any]:
        return {
            "keys": [
                {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "alg": "RS256"}
                for kid, key in self._keys.items()
            ]
        }

    def token(self, *repositories: str, audience: str = SERVICE, actions: Sequence[str] = ("pull",)) -> str:
        kid, key = list(self._keys.items())[-1]
        now = int(self._clock.now().timestamp())
        access = [{"type": "repository", "name": name, "actions": list(actions)} for name in repositories]
        claims = {"aud": audience, "sub": "u", "iat": now, "exp": now + 900, "access": access}
        return jwt.encode(claims, key, "RS256", headers={"kid": kid})


@dataclass
class Hub:
    """The centre: its contents are `centre`'s, what is below says who sees what. `away`: it answers nothing."""

    centre: FakeCentre
    clock: ManualClock
    manifests: dict[tuple[str, str], bytes] = field(default_factory=dict)
    linked: dict[str, list[Sample]] = field(default_factory=dict)
    public: set[str] = field(default_factory=set)
    away: bool = False
    asked: list[str] = field(default_factory=list)
    rights_asked: int = 0
    revoked: bool = False

    def __post_init__(self) -> None:
        self.keys = Keys(self.clock)

    def push(self, repository: str, tag: str, *layers: Sample) -> Digest:
        payload = manifest_of(*layers)
        digest = Digest.of(payload)
        self.manifests[repository, tag] = self.manifests[repository, str(digest)] = payload
        self.linked.setdefault(repository, []).extend(layers)
        for layer in layers:
            self.centre.publish(layer, "t-acme")
        return digest

    def routes(self) -> list[web.RouteDef]:
        return [
            *self.centre.routes(),
            web.get("/.well-known/jwks.json", self._jwks),
            web.route("*", "/v2/{path:.*}", self._v2),
        ]

    async def ask(self, registry_token: str, repository: str, digests: Sequence[Digest]) -> Granted:
        """`PullRights`."""
        self.rights_asked += 1
        if self.away:
            raise Unavailable("away")
        if not registry_token and repository not in self.public:
            raise Unauthenticated("this needs a login")
        if self.revoked:
            raise NotFound("there is no such repository")
        found = {each.digest: each for each in self.linked.get(repository, []) if each.digest in digests}
        return Granted(
            "t-acme",
            {digest: len(each.data) for digest, each in found.items()},
            {digest: self.centre.signer.token(each.key("t-acme"), "regional/r") for digest, each in found.items()},
            repository in self.public,
        )

    async def _jwks(self, request: web.Request) -> web.Response:
        self._cut(request)
        return web.json_response(self.keys.jwks())

    async def _v2(self, request: web.Request) -> web.StreamResponse:
        self._cut(request)
        path = request.match_info["path"]
        if path == "token":
            return web.json_response({"token": "given", "body": (await request.read()).decode()})
        repository, _, rest = path.rpartition("/manifests/")
        self.asked.append(path)
        if not repository:
            repository = path.rpartition("/blobs/")[0] or path.rpartition("/tags/")[0]
        if "Authorization" not in request.headers and repository not in self.public:
            challenge = f'Bearer realm="http://centre.test/v2/token",service="{SERVICE}"'
            return _error(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge})
        if "/tags/" in path:
            return web.json_response({"name": repository, "tags": ["1"]})
        if "/blobs/" in path:
            return _error(404, "BLOB_UNKNOWN")
        payload = self.manifests.get((repository, rest))
        if payload is None:
            return _error(404, "MANIFEST_UNKNOWN")
        digest = Digest.of(payload)
        if request.headers.get("If-None-Match") == f'"{digest}"':
            return web.Response(status=304)
        return web.Response(body=payload, headers={"Docker-Content-Digest": str(digest), "Content-Type": IMAGE})

    def _cut(self, request: web.Request) -> None:
        if self.away and request.transport is not None:
            request.transport.abort()


def _error(status: int, code: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"errors": [{"code": code}]}, status=status, headers=headers)


@dataclass
class Client:
    base: str
    http: aiohttp.ClientSession

    async def get(self, path: str, token: str = "", method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        async with self.http.request(method, f"{self.base}{path}", headers=sent) as answer:
            return answer.status, answer.headers, await answer.read()


@asynccontextmanager
async def edge_registry(rig: Rig, hub: Hub, directory: Path, **options: Any) -> AsyncIterator[Client]:
    """`/v2/` of a regional with this cache; the same directory: a restart."""
    metrics = Metrics()
    registry = EdgeRegistry(
        directory,
        rig.cache,
        await rig.lifecycle.enter(aiohttp.ClientSession(auto_decompress=False)),
        hub,
        hub.clock,
        lambda: 0.5,
        rig.lifecycle,
        metrics,
        keep=timedelta(hours=72),
        **options,
    )
    await registry.start()
    app = web.Application(middlewares=[watch(hub.clock, metrics)])
    app.add_routes(registry.routes())
    async with listening(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as http:
        yield Client(f"http://127.0.0.1:{port}", http)
