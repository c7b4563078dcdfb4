"""A package server that can be slow, broken and away, and counts what it was asked."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import aiohttp
from aiohttp import web

from common.byte_ranges import Validators, requested_span
from common.clock import SystemClock
from common.lifecycle import Lifecycle
from regional.files import Files
from regional.metrics import Metrics
from regional.mirrors.download import Source
from regional.mirrors.model import parse
from regional.mirrors.service import Mirrors
from regional.mirrors.shelf import Shelf
from regional.serving import listening, watch
from regional.tree import create_tree


class Upstream:
    """`files` by path. `hold`: answers stop after so many bytes until `go` is set; `cut`: the connection ends there,
    `cuts` times.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.unchanged: Counter[str] = Counter()
        self.status: dict[str, int] = {}
        self.redirects: dict[str, str] = {}
        self.hold: int | None = None
        self.go = asyncio.Event()
        self.cut: int | None = None
        self.cuts = 0
        self.chunked = False
        self.headers: list[dict[str, str]] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/debian"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path.removeprefix("/debian/")
        self.asked[path] += 1
        self.headers.append(dict(request.headers))
        if path in self.redirects:
            return web.Response(status=302, headers={"Location": self.redirects[path]})
        if path in self.status:
            return web.Response(status=self.status[path])
        if path not in self.files:
            return web.Response(status=404)
        data = self.files[path]
        validators = Validators(f"{hash(data):x}")
        if validators.not_modified(request.headers.get("If-None-Match"), None):
            self.unchanged[path] += 1
            return web.Response(status=304)
        span = requested_span(request.headers.get("Range"), len(data))
        start = span.start if span else 0
        response = web.StreamResponse(status=206 if span else 200, headers=validators.headers())
        if span:
            response.headers["Content-Range"] = span.content_range(len(data))
        if not self.chunked:
            response.content_length = len(data) - start
        await response.prepare(request)
        stop = self.hold if self.hold is not None else self.cut if self.cuts else None
        if stop is not None and stop > start:
            await response.write(data[start:stop])
            if self.cuts:
                self.cuts -= 1
                assert request.transport is not None
                request.transport.close()
                return response
            await self.go.wait()
            start = stop
        await response.write(data[start:])
        await response.write_eof()
        return response


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    subject = Upstream()
    app = web.Application()
    app.router.add_get("/{tail:.*}", subject.answer)
    async with listening(app, "127.0.0.1", 0) as port:
        subject.port = port
        yield subject


class Clock(SystemClock):
    """The real one, that a test can set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead)

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, 0.01))


class Site:
    """A regional's files with one mirror, `/repos/debian/12/`."""

    def __init__(self, port: int, root: Path, shelf: Shelf, http: aiohttp.ClientSession, clock: Clock) -> None:
        self.port, self.root, self.shelf, self.http, self.clock = port, root, shelf, http, clock

    def get(self, path: str, **headers: str) -> aiohttp.client._RequestContextManager:
        return self.http.get(f"http://127.0.0.1:{self.port}/repos/debian/12/{path}", headers=headers)

    async def read(self, path: str) -> tuple[int, str, bytes]:
        async with self.get(path) as answer:
            return answer.status, answer.headers.get("X-Cache", ""), await answer.read()


@asynccontextmanager
async def site(directory: Path, url: str, limit_bytes: int = 10 << 20) -> AsyncIterator[Site]:
    """Its data outlives it: the next one on the same directory finds it."""
    root, clock, metrics = directory / "root", Clock(), Metrics()
    create_tree(root)
    shelf = Shelf(directory / "mirrors", limit_bytes)
    shelf.open()
    async with AsyncExitStack() as stack:
        stack.callback(shelf.close)
        http = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        lifecycle = await stack.enter_async_context(Lifecycle())
        mirrors = Mirrors(
            parse(f"debian/12={url}"), shelf, Source(http, clock, random.Random(1).random, limit_bytes), clock,
            lifecycle.spawn, lambda outcome: metrics.mirrors.labels(outcome).inc(), fresh_seconds=60.0, at_once=4,
        )  # fmt: skip
        app = web.Application(middlewares=[watch(clock, metrics)])
        app.add_routes(Files(root, clock, mirrors).routes())
        port = await stack.enter_async_context(listening(app, "127.0.0.1", 0))
        client = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        yield Site(port, root, shelf, client, clock)
