"""Who may use the open listener, and how much of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from common.clock import ManualClock, SystemClock
from regional.admission import Admission, NetworksInvalid, networks_of
from regional.metrics import Metrics
from regional.sending import PACE
from regional.serving import listening, watch


@asynccontextmanager
async def serving(admission: Admission, handler: web.RouteDef) -> AsyncIterator[str]:
    app = web.Application(middlewares=[watch(SystemClock(), Metrics()), admission.middleware()])
    app.add_routes([handler])
    async with listening(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}/"


async def _said(request: web.Request) -> web.Response:
    return web.Response(text="here you are")


@pytest.mark.parametrize(
    ("networks", "status"),
    [("", 200), ("127.0.0.0/8", 200), ("10.0.0.0/8, 127.0.0.1/32", 200), ("10.0.0.0/8", 403), ("fd00::/8", 403)],
)
async def test_only_the_named_networks_get_in(networks: str, status: int) -> None:
    admission = Admission(SystemClock(), networks_of(networks))
    async with serving(admission, web.get("/", _said)) as url, aiohttp.ClientSession() as http, http.get(url) as answer:
        assert answer.status == status
        if status == 403:
            assert (await answer.json())["code"] == "client_not_allowed"


@pytest.mark.parametrize("text", ["10.0.0.1/8", "rack", "10.0.0.0/33"])
def test_a_network_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(NetworksInvalid):
        networks_of(text)


async def test_one_client_has_so_many_requests_at_once() -> None:
    busy, go = asyncio.Semaphore(0), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        busy.release()
        await go.wait()
        return web.Response(text="here you are")

    admission = Admission(SystemClock(), requests=2)
    async with serving(admission, web.get("/", slow)) as url, aiohttp.ClientSession() as http:
        answers = [asyncio.ensure_future(http.get(url)) for _ in range(2)]
        await busy.acquire()
        await busy.acquire()
        async with http.get(url) as refused:
            assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        go.set()
        assert [answer.status for answer in await asyncio.gather(*answers)] == [200, 200]
        async with http.get(url) as answer:
            assert answer.status == 200


async def test_each_client_has_its_own_rate() -> None:
    clock = ManualClock()
    admission = Admission(clock, bytes_per_second=1_000_000)

    async def paced(request: web.Request) -> web.Response:
        taking = asyncio.ensure_future(request[PACE].take(1_000_000))
        while not taking.done():
            await asyncio.sleep(0)
            await clock.advance(0.01)
        return web.Response(text=str(clock.monotonic()))

    async with serving(admission, web.get("/", paced)) as url, aiohttp.ClientSession() as http, http.get(url) as answer:
        # All but the burst of a tenth of a second.
        assert 0.85 < float(await answer.text()) < 1.0
