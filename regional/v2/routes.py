"""The wire of `/v2/`. One handler: repository names contain slashes, so a path is read from its right end (`paths`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog
from aiohttp import web

from common.byte_ranges import Span, Validators
from common.errors import Denied, Failure, Internal, NotFound, Unauthenticated, Unavailable
from regional.directory import DiskFull
from regional.edge import Edge
from regional.metrics import Metrics
from regional.model import ContentKey
from regional.sending import Representation, send
from regional.shelf import CacheFull
from regional.v2.answers import Answers
from regional.v2.centre import Refusal
from regional.v2.errors import VERSION, MethodUnsupported, refused
from regional.v2.gate import Asker, Gate
from regional.v2.links import Links, Opened
from regional.v2.manifests import Manifests
from regional.v2.passing import Passing
from regional.v2.paths import Base, BlobPath, Further, Login, ManifestPath, PathUnknown, Target, parse_path

log = structlog.get_logger()

_FOREVER = "private, max-age=31536000, immutable"
_READS = frozenset({"GET", "HEAD"})


class RegistryRoutes:
    def __init__(
        self,
        gate: Gate,
        manifests: Manifests,
        links: Links,
        passing: Passing,
        answers: Answers,
        edge: Edge,
        metrics: Metrics,
    ) -> None:
        self._gate = gate
        self._manifests = manifests
        self._links = links
        self._passing = passing
        self._answers = answers
        self._edge = edge
        self._metrics = metrics

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", "/v2", self.serve), web.route("*", "/v2/{path:.*}", self.serve)]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        repository = ""
        try:
            target = parse_path(request.rel_url.raw_path) if request.method in _READS else _written(request, self._gate)
            repository = target.repository if isinstance(target, ManifestPath | BlobPath | Further) else ""
            return await self._answer(request, target)
        except Failure as failure:
            self._metrics.pulls.labels("refused").inc()
            challenge = self._challenge(request, repository, failure)
            return refused(failure, challenge)

    async def _answer(self, request: web.Request, target: Target) -> web.StreamResponse:
        if isinstance(target, Login):
            if not self._gate.own_logins:
                raise PathUnknown("this edge has no token service", action="use the one that the challenge names")
            return await self._passing.login(request)
        asker = await self._gate.asker(request)
        match target:
            case Base():
                if asker.claim is None:
                    raise Unauthenticated("this needs a login", action="log in, for example with `docker login`")
                return web.Response(body=b"{}", content_type="application/json", headers=VERSION)
            case ManifestPath():
                return await self._manifest(request, asker, target)
            case BlobPath():
                return await self._blob(request, asker, target)
            case _:
                if target.repository:
                    asker.require(target.repository)
                return await self._pass_on(request, asker, target.repository)

    async def _manifest(self, request: web.Request, asker: Asker, target: ManifestPath) -> web.StreamResponse:
        accept = ", ".join(request.headers.getall("Accept", ()))
        answer = await self._manifests.get(asker, target.repository, target.reference, accept)
        if isinstance(answer, Refusal):
            return self._refusal(request, target.repository, answer)
        self._metrics.pulls.labels("known" if answer.stale is None else "stale").inc()
        manifest = answer.manifest
        validators = Validators(str(manifest.digest))
        headers = {
            **VERSION,
            **validators.headers(),
            **_staleness(answer.stale),
            "Content-Type": manifest.media_type,
            "Docker-Content-Digest": str(manifest.digest),
            "Cache-Control": "private, no-cache" if isinstance(target.reference, str) else _FOREVER,
        }
        if validators.not_modified(request.headers.get("If-None-Match"), None):
            return web.Response(status=304, headers=headers)
        return web.Response(body=manifest.payload, headers=headers)

    async def _blob(self, request: web.Request, asker: Asker, target: BlobPath) -> web.StreamResponse:
        asker.require(target.repository)
        held = self._edge.holds(target.digest)
        try:
            opened = await self._links.find(asker, target.repository, target.digest, held=held)
        except (NotFound, Denied):
            # Taken from the repository, or from the asker: the centre says it in its own words.
            await asyncio.to_thread(self._answers.forget_link, target.repository, target.digest)
            opened = None
        if opened is None:
            return await self._pass_on(request, asker, target.repository)
        headers = {**VERSION, "Docker-Content-Digest": str(target.digest), "Cache-Control": _FOREVER}
        headers |= _staleness(opened.stale)
        if request.method == "HEAD":
            body = _Unread(opened.link.size_bytes)
            return await send(request, Representation(body, Validators(str(target.digest)), headers=headers))
        if not held and not opened.token:
            raise Unavailable("the centre is away, and this is not held", action="try again", retry_after_seconds=5)
        return await self._content(request, asker, target, opened, headers, held=held)

    async def _content(
        self,
        request: web.Request,
        asker: Asker,
        target: BlobPath,
        opened: Opened,
        headers: Mapping[str, str],
        *,
        held: bool,
    ) -> web.StreamResponse:
        key = ContentKey(target.digest, opened.link.tenant_id)
        self._edge.links.heard(request, target.digest)
        try:
            reader = await self._edge.open(key, opened.token)
        except (CacheFull, DiskFull, Denied, NotFound, Internal) as failure:
            # There is no room, or no way of ours to it: the asker's own way is left.
            log.warning("content not cached, passed on", digest=str(target.digest), error=str(failure))
            return await self._pass_on(request, asker, target.repository)
        async with reader:
            self._metrics.pulls.labels("held" if held else "fetched").inc()
            with self._edge.links.serving(request, key):
                return await send(request, Representation(reader, Validators(str(target.digest)), headers=headers))

    async def _pass_on(self, request: web.Request, asker: Asker, repository: str) -> web.StreamResponse:
        self._metrics.pulls.labels("passed").inc()
        challenge = self._gate.challenge(request, repository, None)
        with self._edge.links.passing(request):
            return await self._passing.send(request, asker.headers(), challenge, VERSION, self._edge.links.wan.take)

    def _refusal(self, request: web.Request, repository: str, answer: Refusal) -> web.Response:
        self._metrics.pulls.labels("refused").inc()
        headers = {**VERSION, "Content-Type": answer.content_type, "Cache-Control": "no-store"}
        if answer.status == 401:
            headers["WWW-Authenticate"] = self._gate.challenge(request, repository, None)
        return web.Response(status=answer.status, body=answer.body, headers=headers)

    def _challenge(self, request: web.Request, repository: str, failure: Failure) -> str:
        return self._gate.challenge(request, repository, failure if isinstance(failure, Unauthenticated) else None)


class _Unread:
    """The body of a HEAD: its size is known, its bytes are not wanted."""

    def __init__(self, size: int) -> None:
        self.size = size

    async def ready(self, span: Span) -> None:
        return

    async def send(self, request: web.BaseRequest, response: web.StreamResponse, span: Span) -> None:
        raise AssertionError("a HEAD has no body")


def _written(request: web.Request, gate: Gate) -> Target:
    """The one POST that there is. Raises `MethodUnsupported`."""
    if request.method == "POST" and gate.own_logins and request.rel_url.raw_path == "/v2/token":
        return Login()
    raise MethodUnsupported(f"{request.method[:20]} means nothing here", action="push to the centre; an edge is read")


def _staleness(seconds: float | None) -> dict[str, str]:
    """RFC 9111 section 5.1, and the warning of its predecessor that clients still read (RFC 7234 section 5.5.1)."""
    if seconds is None:
        return {}
    return {"Age": str(int(seconds)), "Warning": '110 - "Response is Stale"'}
