"""Real HTTP servers that take events: willing, failing, slow, hanging, redirecting."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Behaviour = Callable[["Receiver"], int]


@dataclass
class Received:
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document


@dataclass
class Receiver:
    """`status` is what it answers; while `hangs` is set it takes the request and says nothing."""

    url: str = ""
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    hangs: bool = False
    received: list[Received] = field(default_factory=list)
    most_at_once: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)
    _open: list[web.Request] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.received.append(Received(dict(request.headers), await request.read()))
        self._open.append(request)
        # Whoever gave up has hung up.
        self._open = [one for one in self._open if one.transport is not None and not one.transport.is_closing()]
        self.most_at_once = max(self.most_at_once, len(self._open))
        if self.hangs:
            await self.released.wait()
        self._open = [one for one in self._open if one is not request]
        return web.Response(status=self.status, headers=self.headers)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [each.event for each in self.received]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.received) < count:  # noqa: ASYNC110  the server has no condition to wait on
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", receiver.take)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    receiver.url = f"http://{host}:{port}/events"
    try:
        yield receiver
    finally:
        receiver.released.set()
        await runner.cleanup()
