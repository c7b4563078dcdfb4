"""Leases at the centre: one book for all replicas, hosts told of each other, and what remains without the cache."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
from starlette.applications import Starlette

from common.clock import ManualClock
from common.content_token import ContentClaim
from common.digest import Digest
from common.errors import Unavailable
from common.limits import Link
from common.spreading import masks
from common.spreading.exchange import Question, decode_grant, encode_question
from common.spreading.leases import Shape
from control_plane.cache.memory import MemoryCache
from control_plane.database import Database
from control_plane.fleet.hosts import Members
from control_plane.fleet.limits import store as limits_store
from control_plane.fleet.limits.model import LimitPolicy, Scope, ScopeKind
from control_plane.jobs.service import JobService
from control_plane.swarm.access import ContentAccess
from control_plane.swarm.describe import Describer
from control_plane.swarm.gates import Gates
from control_plane.swarm.lease_routes import LeaseRoutes
from control_plane.swarm.leases import LeaseBooks
from control_plane.swarm.service import SwarmService
from control_plane.swarm.tokens import ContentTokens
from control_plane.web.errors import install_error_handlers
from tests.control_plane.swarm.parts import Shelf, add_host, to_describe

SHAPE = Shape(40 << 20, 1 << 20)
EVERYTHING = masks.full(40)
LEASED = Digest.of(b"x")


def claim(clock: ManualClock, host: str, idc: str = "east") -> ContentClaim:
    return ContentClaim(f"host/{host}", idc, "tenant", (LEASED,), clock.now() + timedelta(hours=1))


@pytest.fixture
def cache(clock: ManualClock) -> MemoryCache:
    return MemoryCache(clock)


def replica(cache: MemoryCache, clock: ManualClock) -> LeaseBooks:
    return LeaseBooks(cache, clock, lambda: 0.5)


class AwayCache(MemoryCache):
    async def increment(self, key: str, ttl_seconds: float) -> int:
        raise Unavailable("Redis is away")


async def test_two_replicas_never_lease_the_same_piece(clock: ManualClock, cache: MemoryCache) -> None:
    one, two = replica(cache, clock), replica(cache, clock)
    seen = 0
    for number in range(8):
        grant = await (one, two)[number % 2].ask(claim(clock, str(number)), LEASED, SHAPE, Question(0))
        assert grant.run is not None
        assert not masks.of_range(grant.run) & seen
        seen |= masks.of_range(grant.run)


async def test_questions_that_come_at_once_are_answered_one_after_another(
    clock: ManualClock, cache: MemoryCache
) -> None:
    books = replica(cache, clock)
    grants = await asyncio.gather(*(books.ask(claim(clock, str(n)), LEASED, SHAPE, Question(0)) for n in range(8)))
    pieces = [piece for grant in grants for piece in grant.run or ()]
    assert len(set(pieces)) == len(pieces) >= 8


async def test_each_idc_gets_a_copy_of_its_own(clock: ManualClock, cache: MemoryCache) -> None:
    books = replica(cache, clock)
    east = await books.ask(claim(clock, "1"), LEASED, SHAPE, Question(0))
    west = await books.ask(claim(clock, "2", "west"), LEASED, SHAPE, Question(0))
    assert east.run == west.run


async def test_a_ninth_host_is_no_gate_and_is_told_whom_to_ask(clock: ManualClock, cache: MemoryCache) -> None:
    books = replica(cache, clock)
    for number in range(8):
        await books.ask(claim(clock, str(number)), LEASED, SHAPE, Question(0, peer=f"10.0.0.{number}:6881"))
    grant = await books.ask(claim(clock, "ninth"), LEASED, SHAPE, Question(0, peer="10.0.0.9:6881"))
    assert grant.run is None
    assert set(grant.peers) == {f"10.0.0.{number}:6881" for number in range(8)}


async def test_a_replica_that_died_with_the_lock_holds_nobody_up_for_long(
    clock: ManualClock, cache: MemoryCache
) -> None:
    key = f"lease:east:tenant:{LEASED}:lock"
    await cache.increment(key, 2.0)
    books = replica(cache, clock)
    asking = asyncio.ensure_future(books.ask(claim(clock, "1"), LEASED, SHAPE, Question(0)))
    for _ in range(60):
        await clock.advance(0.02)
    assert (await asking).run is None, "the host comes again"
    clock.tick(1.0)
    assert (await books.ask(claim(clock, "1"), LEASED, SHAPE, Question(0))).run is not None


async def test_without_the_cache_each_replica_keeps_a_book_of_its_own(clock: ManualClock) -> None:
    one, two = replica(AwayCache(clock), clock), replica(AwayCache(clock), clock)
    first = await one.ask(claim(clock, "1"), LEASED, SHAPE, Question(0))
    second = await one.ask(claim(clock, "2"), LEASED, SHAPE, Question(0))
    other = await two.ask(claim(clock, "3"), LEASED, SHAPE, Question(0))
    assert first.run is not None
    assert second.run is not None
    assert not set(first.run) & set(second.run)
    assert other.run == first.run, "as many copies as replicas, at worst"


async def test_a_record_of_another_version_begins_anew(clock: ManualClock, cache: MemoryCache) -> None:
    await cache.set(f"lease:east:tenant:{Digest.of(b'x')}", b'{"version": 9}', 60)
    assert (await replica(cache, clock).ask(claim(clock, "1"), LEASED, SHAPE, Question(0))).run is not None


async def test_gates_that_die_are_followed_by_others(clock: ManualClock, cache: MemoryCache) -> None:
    books = replica(cache, clock)
    for number in range(8):
        await books.ask(claim(clock, str(number)), LEASED, SHAPE, Question(0))
    held = 0
    for _ in range(200):
        clock.tick(0.5)
        grant = await books.ask(claim(clock, "survivor"), LEASED, SHAPE, Question(held))
        held |= masks.of_range(grant.run) if grant.run else 0
    assert held == EVERYTHING


@pytest.mark.usefixtures("fleet")
async def test_an_idc_with_a_narrow_wan_and_wide_hosts_has_few_gates(
    clock: ManualClock, cache: MemoryCache, database: Database
) -> None:
    for number in range(20):
        await add_host(database, "east", f"h{number}")
    gates = Gates(database)

    async def admitted(idc: str = "east") -> int:
        await cache.delete(f"lease:{idc}:tenant:{Digest.of(b'x')}")
        books = LeaseBooks(cache, clock, lambda: 0.5, gates.count)
        grants = [await books.ask(claim(clock, str(number), idc), LEASED, SHAPE, Question(0)) for number in range(12)]
        return sum(grant.run is not None for grant in grants)

    assert (await admitted(), await admitted("nowhere")) == (8, 8)
    for wan, host_up, expected in ((50.0, 50.0, 2), (50.0, 100.0, 1), (50.0, 10.0, 10), (50.0, None, 8)):
        rates = {Link.WAN_DOWN: wan} | ({Link.HOST_UP: host_up} if host_up else {})
        async with database.transaction() as unit:
            scope = Scope(ScopeKind.IDC, "idc-east")
            await limits_store.put(unit.connection, scope, LimitPolicy(rates), unit.clock.now())
        clock.tick(10.5)
        assert await admitted() == expected
    assert await gates.count("west") == 1, "it has one host"


BLOB = bytes(range(256)) * (3 << 12)  # 3 MiB
DIGEST = Digest.of(BLOB)


@pytest.fixture
async def client(
    fleet: None,
    members: Members,
    tokens: ContentTokens,
    clock: ManualClock,
    shelf: Shelf,
    swarm: SwarmService,
    cache: MemoryCache,
    jobs: JobService,
    describer: Describer,
) -> AsyncIterator[httpx.AsyncClient]:
    shelf.put(BLOB)
    with pytest.raises(Unavailable):
        await swarm.metainfo("t-acme", DIGEST)
    for tenant_id, digest in await to_describe(jobs):
        await describer.describe(tenant_id, digest)
    routes = LeaseRoutes(ContentAccess(tokens, members, clock), swarm, replica(cache, clock))
    app = Starlette(routes=routes.routes())
    install_error_handlers(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://centre") as client:
        yield client


async def test_a_content_token_opens_leases_of_its_content_alone(
    client: httpx.AsyncClient, tokens: ContentTokens
) -> None:
    path, body = f"/content/v1/{DIGEST}/lease", encode_question(Question(0))
    mine = {"Authorization": f"Bearer {tokens.mint('host/host-e1', 'east', 't-acme', DIGEST)}"}
    other = {"Authorization": f"Bearer {tokens.mint('host/host-e1', 'east', 't-acme', Digest.of(b'other'))}"}
    answer = await client.post(path, content=body, headers=mine)
    assert answer.status_code == 200
    assert decode_grant(answer.content, len(BLOB) // (256 << 10)).run is not None
    assert (await client.post(path, content=body)).status_code == 401
    assert (await client.post(path, content=body, headers=other)).status_code == 403
    assert (await client.post(path, content=b"{}", headers=mine)).status_code == 400
    assert (await client.post(path, content=bytes(1 << 20), headers=mine)).status_code == 413
