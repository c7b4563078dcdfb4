"""Replicas take turns at what they fetch, and none waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from common.clock import ManualClock, SystemClock
from common.digest import Digest
from common.errors import Unavailable
from control_plane.blobs.filesystem import FilesystemBlobStore
from control_plane.cache.memory import MemoryCache
from control_plane.registry.mirroring.turns import Turns
from tests.control_plane.registry.mirroring.scripted import scripted_upstream
from tests.control_plane.registry.mirroring.sites import HUB, open_site

LAYER = b"layer" * 100_000


class Absent(MemoryCache):
    async def increment(self, key: str, ttl_seconds: float) -> int:
        raise Unavailable("the cache is away")


class Shelf:
    """What is stored, in place of a registry."""

    def __init__(self) -> None:
        self.full = False

    async def stored(self) -> bool:
        return self.full


def replica(cache: MemoryCache, clock: ManualClock) -> Turns:
    return Turns(cache, clock, lambda: 0.5)


async def entered(turns: Turns, stored: Callable[[], Awaitable[bool]]) -> bool:
    async with turns.turn("acme/a@sha256:0", stored) as mine:
        return mine


async def test_the_second_replica_waits_until_the_first_has_stored_it(clock: ManualClock) -> None:
    cache, shelf = MemoryCache(clock), Shelf()
    async with replica(cache, clock).turn("acme/a@sha256:0", shelf.stored) as mine:
        assert mine
        waiting = asyncio.ensure_future(entered(replica(cache, clock), shelf.stored))
        await clock.advance(10)
        assert not waiting.done(), "the turn is kept as long as it is fetched"
        shelf.full = True
    await clock.advance(1)
    assert await waiting is False


async def test_what_failed_is_somebody_elses_turn(clock: ManualClock) -> None:
    cache, shelf = MemoryCache(clock), Shelf()
    with contextlib.suppress(ZeroDivisionError):
        async with replica(cache, clock).turn("acme/a@sha256:0", shelf.stored):
            waiting = asyncio.ensure_future(entered(replica(cache, clock), shelf.stored))
            await clock.advance(1)
            raise ZeroDivisionError
    await clock.advance(1)
    assert await waiting is True


async def test_a_replica_that_died_is_waited_for_as_long_as_its_lease(clock: ManualClock) -> None:
    cache, shelf = MemoryCache(clock), Shelf()
    await cache.increment("mirroring/turn/1/acme/a@sha256:0", 6)
    waiting = asyncio.ensure_future(entered(replica(cache, clock), shelf.stored))
    await clock.advance(5)
    assert not waiting.done()
    await clock.advance(2)
    assert await waiting is True


async def test_nobody_waits_longer_than_a_client_does(clock: ManualClock) -> None:
    cache, shelf = MemoryCache(clock), Shelf()
    async with replica(cache, clock).turn("acme/a@sha256:0", shelf.stored):
        waiting = asyncio.ensure_future(entered(replica(cache, clock), shelf.stored))
        await clock.advance(13)
        assert await waiting is True


async def test_without_a_cache_everybody_fetches(clock: ManualClock) -> None:
    shelf, cache = Shelf(), Absent(clock)
    async with replica(cache, clock).turn("acme/a@sha256:0", shelf.stored) as mine:
        assert mine
        assert await entered(replica(cache, clock), shelf.stored) is True


async def test_two_replicas_fetch_a_blob_from_upstream_once(tmp_path: Path, sqlite_url: str) -> None:
    cache, asked, go = MemoryCache(SystemClock()), asyncio.Event(), asyncio.Event()

    def store() -> FilesystemBlobStore:
        return FilesystemBlobStore(tmp_path / "shared", reserve_bytes=0)

    async def slowly(request: web.BaseRequest) -> web.StreamResponse | None:
        if request.method == "GET" and "/blobs/" in request.path:
            asked.set()
            await asyncio.wait_for(go.wait(), 10)
        return None

    path = f"{HUB}/web/blobs/{Digest.of(LAYER)}"
    async with scripted_upstream() as upstream, contextlib.AsyncExitStack() as stack:
        upstream.hold("library/web", "1", b"{}", LAYER)
        upstream.answer = slowly
        first, second = [
            await stack.enter_async_context(open_site(tmp_path / name, sqlite_url, blobs=store(), cache=cache))
            for name in ("first", "second")
        ]
        await first.mirror(f"{upstream.url}/library")
        one = asyncio.ensure_future(first.get(path))
        await asyncio.wait_for(asked.wait(), 10)
        other = asyncio.ensure_future(second.get(path))
        await asyncio.sleep(0.2)
        go.set()
        assert await one == (200, LAYER)
        assert await other == (200, LAYER)
        assert upstream.asked[f"GET library/web/blobs/{Digest.of(LAYER)}"] == 1
        assert second.spooled() == []
