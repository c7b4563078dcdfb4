"""Block maps and small parts of a content, by the same right and counted like the content itself."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette

from common import byte_parts
from common.bittorrent import reuse
from common.byte_ranges import Span
from common.clock import ManualClock
from common.digest import Digest
from control_plane.database import Database
from control_plane.fleet.hosts import Members
from control_plane.swarm import queries
from control_plane.swarm.access import ContentAccess
from control_plane.swarm.describe import Describer
from control_plane.swarm.egress import EgressCounter
from control_plane.swarm.part_routes import PartRoutes
from control_plane.swarm.tokens import ContentTokens
from control_plane.web.errors import install_error_handlers
from tests.control_plane.swarm.parts import Shelf

pytestmark = pytest.mark.usefixtures("fleet")

DISK = random.Random(1).randbytes(4 << 20) + bytes(1 << 20)
DIGEST = Digest.of(DISK)
# Neighbours, far apart, on borders of the shelf's chunks, and the end.
SPANS = [Span(0, 7), Span(7, 9), Span((1 << 20) - 5, (1 << 20) + 5), Span(4_000_000, 4_100_000), Span(5242870, 5242880)]


@pytest.fixture
async def client(
    database: Database, tokens: ContentTokens, members: Members, clock: ManualClock, shelf: Shelf, egress: EgressCounter
) -> AsyncIterator[httpx.AsyncClient]:
    shelf.put(DISK)
    app = Starlette(routes=PartRoutes(database, ContentAccess(tokens, members, clock), shelf, egress).routes())
    install_error_handlers(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://centre") as client:
        yield client


@pytest.fixture
def bearer(tokens: ContentTokens) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens.mint('host/host-e1', 'east', 't-acme', DIGEST)}"}


async def sent(egress: EgressCounter, database: Database) -> int:
    await egress.flush()
    async with database.reading() as connection:
        return sum((await queries.egress_totals(connection, None)).values())


async def test_parts_come_one_after_the_other_and_are_counted(
    client: httpx.AsyncClient, bearer: dict[str, str], egress: EgressCounter, database: Database
) -> None:
    answer = await client.post(f"/content/v1/{DIGEST}/parts", content=byte_parts.encode(SPANS), headers=bearer)
    assert answer.status_code == 200
    assert answer.content == b"".join(DISK[span.start : span.end] for span in SPANS)
    assert answer.headers["content-length"] == str(byte_parts.total(SPANS))
    assert await sent(egress, database) == byte_parts.total(SPANS)


async def test_neighbouring_parts_are_read_in_one_go(
    client: httpx.AsyncClient, bearer: dict[str, str], shelf: Shelf
) -> None:
    spans = [Span(at, at + 64) for at in range(0, 1 << 20, 4096)]
    answer = await client.post(f"/content/v1/{DIGEST}/parts", content=byte_parts.encode(spans), headers=bearer)
    assert answer.content == b"".join(DISK[span.start : span.end] for span in spans)
    assert shelf.reads == 1


async def test_a_described_content_has_a_block_map(
    client: httpx.AsyncClient,
    bearer: dict[str, str],
    describer: Describer,
    egress: EgressCounter,
    database: Database,
) -> None:
    missing = await client.get(f"/content/v1/{DIGEST}/blocks", headers=bearer)
    assert (missing.status_code, missing.json()["code"]) == (404, "no_block_map")
    await describer.describe("t-acme", DIGEST)
    await describer.describe("t-globex", DIGEST)
    answer = await client.get(f"/content/v1/{DIGEST}/blocks", headers=bearer)
    found = reuse.parse(answer.content, len(DISK))
    assert len(found.hashes) == len(DISK) // 4096
    assert len(set(found.hashes)) == (4 << 20) // 4096 + 1
    assert await sent(egress, database) == len(answer.content)


async def test_a_compressed_content_has_none(
    client: httpx.AsyncClient, tokens: ContentTokens, describer: Describer, shelf: Shelf
) -> None:
    layer = b"\x1f\x8b\x08\x00" + DISK
    shelf.put(layer)
    digest = Digest.of(layer)
    await describer.describe("t-acme", digest)
    headers = {"Authorization": f"Bearer {tokens.mint('host/host-e1', 'east', 't-acme', digest)}"}
    assert (await client.get(f"/content/v1/{digest}/blocks", headers=headers)).status_code == 404


@pytest.mark.parametrize("route", ["blocks", "parts"])
async def test_without_the_right_to_that_very_content_nothing_is_said(
    client: httpx.AsyncClient, tokens: ContentTokens, egress: EgressCounter, database: Database, route: str
) -> None:
    foreign = {"Authorization": f"Bearer {tokens.mint('host/host-e1', 'east', 't-acme', Digest.of(b'other'))}"}
    method = "GET" if route == "blocks" else "POST"
    for headers, expected in (({}, {401}), (foreign, {401, 403})):
        answer = await client.request(
            method, f"/content/v1/{DIGEST}/{route}", content=byte_parts.encode(SPANS), headers=headers
        )
        assert answer.status_code in expected
    assert await sent(egress, database) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no list",
        byte_parts.encode([Span(0, len(DISK) + 1)]),
        byte_parts.encode([Span(9, 12), Span(0, 4)]),
        bytes(byte_parts.MOST_ENCODED + 12),
    ],
)
async def test_a_list_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, bearer: dict[str, str], body: bytes
) -> None:
    answer = await client.post(f"/content/v1/{DIGEST}/parts", content=body, headers=bearer)
    assert (answer.status_code, answer.json()["code"]) == (400, "parts_invalid")
