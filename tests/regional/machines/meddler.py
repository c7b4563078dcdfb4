"""A proxy between a machine and its regional that loses and changes what passes: a network, a dying server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from regional.serving import listening

from .boots import Site

# A piece of the image as it came from the regional, the number of the request, and where to answer; what is sent on.
Change = Callable[[int, bytes], bytes]


class Meddler:
    """`images`: how many requests for pieces of the image there were. `before`: done before one is passed on. `busy`:
    so many words get a 503.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self.base = ""
        self.images = 0
        self.busy = 0
        self.change: Change = lambda _number, piece: piece
        self.before: Callable[[int], Awaitable[None]] | None = None

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        if self.busy and "/device/" in request.path:
            self.busy -= 1
            return web.Response(status=503, headers={"Retry-After": "1"})
        is_image = request.path.endswith("/image") and not request.query.get("bytes", "").endswith("-7")
        if is_image:
            self.images += 1
            if self.before is not None:
                await self.before(self.images)
        url = f"{self._site.base}{request.path_qs}"
        headers = {name: value for name, value in request.headers.items() if name in ("Authorization", "Content-Type")}
        body = await request.read()
        async with self._site.http.request(request.method, url, data=body or None, headers=headers) as answer:
            content = await answer.read()
        sent = self.change(self.images, content) if is_image and answer.status in (200, 206) else content
        response = web.StreamResponse(status=answer.status, headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(sent)
        if len(sent) < len(content) and request.transport is not None:
            request.transport.close()
        return response


@asynccontextmanager
async def meddling(site: Site) -> AsyncIterator[Meddler]:
    """From here on the regional gives out URLs of the proxy."""
    meddler = Meddler(site)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", meddler.pass_on)
    async with listening(app, "127.0.0.1", 0) as port:
        meddler.base = f"http://127.0.0.1:{port}"
        site.machines.serve_at(meddler.base)
        yield meddler
