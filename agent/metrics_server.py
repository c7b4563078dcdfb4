"""`/metrics` for Prometheus and `/healthz` for whoever supervises, on an address of the operator's choice.

Invariant: it shows numbers and nothing secret, and changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import structlog
from aiohttp import web

from agent.metrics import Metrics

log = structlog.get_logger()
_CLOSE_SECONDS = 2.0


@contextlib.asynccontextmanager
async def serving(
    metrics: Metrics, attached: Callable[[], bool], host: str, port: int, last_port: int = 0
) -> AsyncIterator[int]:
    """Gives the port. `port` 0: `last_port` if it is free, else any. Raises `OSError` when `port` is taken."""

    async def show(_: web.Request) -> web.Response:
        body = await asyncio.to_thread(metrics.exposition)
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "attached": attached()})

    application = web.Application()
    application.add_routes([web.get("/metrics", show), web.get("/healthz", healthz)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_CLOSE_SECONDS)
    await runner.setup()
    try:
        if port or not last_port:
            await web.TCPSite(runner, host, port).start()
        else:
            try:
                await web.TCPSite(runner, host, last_port).start()
            except OSError:
                await web.TCPSite(runner, host, 0).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
