"""Mirrors as the settings say: the one place that joins their parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import structlog

from common.clock import Clock
from common.lifecycle import Lifecycle
from regional.metrics import Metrics
from regional.mirrors.download import Source
from regional.mirrors.model import parse
from regional.mirrors.service import Mirrors
from regional.mirrors.shelf import Shelf
from regional.settings import RegionalSettings

log = structlog.get_logger()


async def start_mirrors(
    settings: RegionalSettings, lifecycle: Lifecycle, clock: Clock, random: Callable[[], float], metrics: Metrics
) -> Mirrors | None:
    """None: none is configured. Raises `MirrorInvalid`, and `UpstreamAway` if the disk cannot be used."""
    upstreams = parse(settings.mirrors)
    if not upstreams:
        return None
    shelf = await lifecycle.enter(_opened(Shelf(settings.data / "mirrors", settings.mirror_cache_bytes)))
    http = await lifecycle.enter(aiohttp.ClientSession(auto_decompress=False))
    source = Source(http, clock, random, settings.mirror_cache_bytes)
    for upstream in upstreams:
        log.info("mirror ready", path=f"/repos/{'/'.join(upstream.names)}/", upstream=upstream.url)
    return Mirrors(
        upstreams, shelf, source, clock, lifecycle.spawn, lambda outcome: metrics.mirrors.labels(outcome).inc(),
        fresh_seconds=settings.mirror_fresh_seconds, at_once=settings.mirror_at_once,
    )  # fmt: skip


@asynccontextmanager
async def _opened(shelf: Shelf) -> AsyncIterator[Shelf]:
    await asyncio.to_thread(shelf.open)
    try:
        yield shelf
    finally:
        await asyncio.to_thread(shelf.close)
