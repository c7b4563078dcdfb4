"""A read-only OCI registry on loopback, for this host's container engine alone (distribution specification, "Pull").

Invariant: it serves only verified content from the cache, by digest, and only the pairs of repository and digest that
the current assignments name. There are no tags, no uploads and no lists: everything else is "not found".
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from agent.cache import ContentCache
from agent.model import Assignments, Content
from common.digest import Digest, DigestInvalid

_ROUTE = re.compile(r"/v2/(?P<repository>[a-z0-9._/-]+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)")
_VERSION_HEADER = {"Docker-Distribution-Api-Version": "registry/2.0"}
_CLOSE_SECONDS = 5.0


class Mirror:
    """Use as an async context manager; it listens from then on. `port` 0 picks a free one.

    `listener`: a socket to use instead, for an engine that lives in another network namespace.
    """

    def __init__(
        self,
        assignments: Callable[[], Assignments],
        cache: ContentCache,
        host: str = "127.0.0.1",
        port: int = 0,
        listener: socket.socket | None = None,
    ) -> None:
        self._assignments = assignments
        self._cache = cache
        self._host = host
        self._wished_port = port
        self._listener = listener
        application = web.Application()
        application.router.add_get("/v2/", _version)
        application.router.add_get("/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_CLOSE_SECONDS)
        self.port = port

    @property
    def address(self) -> str:
        return f"{self._host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        try:
            if self._listener is not None:
                await web.SockSite(self._runner, self._listener).start()
            else:
                await web.TCPSite(self._runner, self._host, self._wished_port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        # The raw path, not the decoded one: %2e and %2f must not become path components after matching.
        matched = _ROUTE.fullmatch(request.raw_path.partition("?")[0])
        if matched is None:
            return _refusal(404, "NAME_UNKNOWN", "this mirror serves manifests and blobs by digest only")
        is_manifest = matched["kind"] == "manifests"
        try:
            digest = Digest.parse(matched["reference"])
        except DigestInvalid:
            code = "MANIFEST_UNKNOWN" if is_manifest else "DIGEST_INVALID"
            return _refusal(404 if is_manifest else 400, code, "ask by digest; this mirror resolves no tags")
        found = self._find(matched["repository"], digest, is_manifest)
        if found is None:
            code = "MANIFEST_UNKNOWN" if is_manifest else "BLOB_UNKNOWN"
            return _refusal(
                404, code, f"{digest} is not assigned to this host in {matched['repository']}, or not held yet"
            )
        content, path = found
        # FileResponse answers HEAD and single ranges, and sends by sendfile(2).
        return web.FileResponse(
            path,
            chunk_size=1 << 20,
            headers={
                **_VERSION_HEADER,
                "Content-Type": content.media_type or "application/octet-stream",
                "Docker-Content-Digest": str(digest),
                "ETag": f'"{digest}"',
                "Cache-Control": "private, max-age=31536000, immutable",
            },
        )

    def _find(self, repository: str, digest: Digest, is_manifest: bool) -> tuple[Content, Path] | None:
        for assignment in self._assignments().items.values():
            if assignment.image.repository != repository:
                continue
            named = (assignment.image.manifest,) if is_manifest else assignment.image.contents
            for content in named:
                if content.digest == digest:
                    path = self._cache.find(digest)
                    return (content, path) if path is not None else None
        return None


async def _version(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"{}", content_type="application/json", headers=_VERSION_HEADER)


def _refusal(status: int, code: str, message: str) -> web.Response:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return web.Response(status=status, body=body, content_type="application/json", headers=_VERSION_HEADER)
