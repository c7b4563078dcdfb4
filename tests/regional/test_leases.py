"""Leases of the regional: only what is here, to the right hosts, and waiting for what is on its way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from common.clock import SystemClock
from common.spreading import masks
from common.spreading.exchange import Grant, Question, decode_grant, encode_question
from common.tls import Name, client_context, server_context
from regional.leases import LeaseDesks
from regional.leases_routes import LeaseRoutes
from regional.metrics import Metrics
from regional.serving import listening, watch
from regional.tracker import Tracker
from tests.pace import BUSY_SECONDS

from .certificates import Authority
from .conftest import PIECE, FakeCentre, Rig, Rigs, Sample, sample

LARGE = sample(12 * PIECE)
COUNT = 12
EVERYTHING = masks.full(COUNT)


class Site:
    def __init__(self, rig: Rig, port: int, authority: Authority, folder: Path) -> None:
        self.rig, self.port, self.authority, self.folder = rig, port, authority, folder
        self.http = aiohttp.ClientSession()

    async def post(self, subject: Sample, host: str, body: bytes, bearer: str | None = None) -> tuple[int, bytes]:
        name = Name("east", "host", host)
        directory = self.folder / host
        if not directory.exists():
            self.authority.saved(name, directory)
            (directory / "ca.pem").write_bytes(self.authority.pem)
        token = self.rig.signer.token(subject.key(), bearer=bearer or f"host/{host}")
        url = f"https://127.0.0.1:{self.port}/content/v1/{subject.digest}/lease"
        headers = {"Authorization": f"Bearer {token}"}
        async with self.http.post(url, data=body, headers=headers, ssl=client_context(directory)) as answer:
            return answer.status, await answer.read()

    async def ask(self, host: str, held: int = 0, fetching: tuple[range, ...] = ()) -> Grant:
        status, body = await self.post(LARGE, host, encode_question(Question(held, fetching)))
        assert status == 200, body
        return decode_grant(body, COUNT)

    async def lease(self, host: str, held: int = 0) -> range:
        async with asyncio.timeout(BUSY_SECONDS):
            while (grant := await self.ask(host, held)).run is None:
                pass
        return grant.run


@pytest.fixture
async def site(rigs: Rigs, centre: FakeCentre, tmp_path: Path) -> AsyncIterator[Site]:
    centre.publish(LARGE, "acme")
    authority, clock = Authority(), SystemClock()
    tls = server_context(authority.saved(Name("east", "regional", "r1"), tmp_path / "server"))
    async with rigs() as rig:
        tracker = Tracker((), clock.monotonic, random.Random(1).random)
        routes = LeaseRoutes(rig.edge, rig.metainfos, rig.signer.verifier(), LeaseDesks(clock), tracker)
        app = web.Application(middlewares=[watch(clock, Metrics())])
        app.add_routes(routes.routes())
        async with listening(app, "127.0.0.1", 0, tls) as port:
            subject = Site(rig, port, authority, tmp_path / "clients")
            yield subject
            await subject.http.close()


async def test_hosts_get_disjoint_pieces_and_the_regional_crosses_the_wan_once(site: Site, centre: FakeCentre) -> None:
    held = dict.fromkeys(("a", "b", "c"), 0)
    while any(mask == 0 for mask in held.values()) or EVERYTHING & ~(held["a"] | held["b"] | held["c"]):
        for host, mask in held.items():
            grant = await site.ask(host, mask)
            if grant.run is not None:
                leased = masks.of_range(grant.run)
                assert not any(leased & other for other in held.values())
                held[host] |= leased
    assert len(centre.gets) == 1


async def test_only_what_has_crossed_the_wan_is_leased(site: Site, centre: FakeCentre) -> None:
    centre.pause_at = 3 * PIECE
    first = await site.lease("a")
    assert first.stop <= 3
    held = masks.of_range(range(3))
    waiting = asyncio.ensure_future(site.lease("a", held))
    assert (await site.ask("b", held)).run is None
    assert not waiting.done()
    centre.resume.set()
    assert (await waiting).start >= 3


async def test_a_lease_is_only_for_the_very_bearer_of_the_token(site: Site) -> None:
    question = encode_question(Question(0))
    assert (await site.post(LARGE, "a", question, bearer="host/b"))[0] == 403
    assert (await site.post(LARGE, "a", b"{}"))[0] == 400


async def test_when_the_centre_is_away_and_nothing_is_here_the_host_learns_it(site: Site, centre: FakeCentre) -> None:
    await site.rig.metainfos.get(LARGE.key(), site.rig.token(LARGE))
    centre.busy = 503, "1"
    async with asyncio.timeout(BUSY_SECONDS):
        while (answer := await site.post(LARGE, "a", encode_question(Question(0))))[0] == 200:
            pass
    assert answer[0] == 503
    assert b"centre" in answer[1]


async def test_who_waits_longest_is_called_first_and_calls_the_next() -> None:
    desks, available = LeaseDesks(SystemClock()), 0

    async def ask(host: str) -> Grant:
        return await desks.ask(
            LARGE.key(), LARGE.metainfo(), host, Question(0, source_rate=1.0), lambda: available, frozenset
        )

    waiting = [asyncio.ensure_future(ask(host)) for host in ("a", "b", "c")]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    available = 0b11
    desks.arrived(LARGE.digest)
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=10)
    assert waiting[0] in done
    async with asyncio.timeout(BUSY_SECONDS):
        grants = [await waiting[0], await waiting[1]]
    assert [grant.run for grant in grants] == [range(1), range(1, 2)]
    assert not waiting[2].done()
    waiting[2].cancel()
