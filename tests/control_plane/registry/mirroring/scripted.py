"""An upstream that answers what a test tells it to."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from common.digest import Digest
from control_plane.registry.manifests import OCI_MANIFEST

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse | None]]


class Scripted:
    """Holds manifests and blobs by path below `/v2/`; `answer` comes first, and None from it means: as usual."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.answer: Answer | None = None
        self.asked: Counter[str] = Counter()
        self.authorizations: list[str] = []
        self.url = ""

    def hold(self, repository: str, tag: str, payload: bytes, *blobs: bytes) -> Digest:
        digest = Digest.of(payload)
        for reference in (tag, digest):
            self.contents[f"{repository}/manifests/{reference}"] = payload
        for blob in blobs:
            self.contents[f"{repository}/blobs/{Digest.of(blob)}"] = blob
        return digest

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path.removeprefix("/v2/")
        self.asked[f"{request.method} {path}"] += 1
        self.authorizations.append(request.headers.get("Authorization", ""))
        if self.answer is not None and (scripted := await self.answer(request)) is not None:
            return scripted
        content = self.contents.get(path)
        if path and content is None:
            return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "no"}]}, status=404)
        kind = OCI_MANIFEST if "/manifests/" in path else "application/octet-stream"
        return web.Response(body=content or b"{}", content_type=kind)


@contextlib.asynccontextmanager
async def scripted_upstream() -> AsyncIterator[Scripted]:
    upstream = Scripted()
    runner = web.ServerRunner(web.Server(upstream.handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield upstream
    await runner.cleanup()
