from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from common.bittorrent import metainfo
from common.clock import ManualClock
from common.content_statement import HEADER, ClaimedMetainfo, StatementFalse, StatementVerifier
from common.digest import Digest
from control_plane.blobs import BlobDamaged
from control_plane.database import Database
from control_plane.fleet.hosts import Members
from control_plane.jobs.service import JobService
from control_plane.registry.model import Content
from control_plane.swarm import queries
from control_plane.swarm.access import ContentAccess
from control_plane.swarm.content_routes import ContentRoutes
from control_plane.swarm.describe import Describer
from control_plane.swarm.egress import EgressCounter
from control_plane.swarm.keys import ContentKeys
from control_plane.swarm.service import SwarmService
from control_plane.swarm.statements import Statements
from control_plane.swarm.tokens import ContentTokens
from control_plane.web.errors import install_error_handlers
from tests.control_plane.swarm.parts import Shelf, revoke_host, to_describe
from tests.pace import BUSY_SECONDS

pytestmark = pytest.mark.usefixtures("fleet")

BLOB = bytes(range(256)) * (3 << 12)  # 3 MiB
DIGEST = Digest.of(BLOB)


@pytest.fixture
def access(members: Members, tokens: ContentTokens, clock: ManualClock) -> ContentAccess:
    return ContentAccess(tokens, members, clock)


@pytest.fixture
def build_app(
    access: ContentAccess, shelf: Shelf, swarm: SwarmService, keys: ContentKeys, egress: EgressCounter
) -> Callable[..., Starlette]:
    shelf.put(BLOB)

    def build(accel_prefix: str | None = None) -> Starlette:
        routes = ContentRoutes(access, shelf, swarm, Statements(keys), egress, accel_prefix)
        app = Starlette(routes=routes.routes())
        install_error_handlers(app)
        return app

    return build


@pytest.fixture
async def client(build_app: Callable[..., Starlette]) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(build_app()), base_url="http://centre") as client:
        yield client


@pytest.fixture
def bearer(tokens: ContentTokens) -> dict[str, str]:
    return authorization(tokens)


def authorization(tokens: ContentTokens, bearer: str = "host/host-e1", digest: Digest = DIGEST) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens.mint(bearer, 'east', 't-acme', digest)}"}


async def sent(egress: EgressCounter, database: Database) -> dict[str, int]:
    await egress.flush()
    async with database.reading() as connection:
        return await queries.egress_totals(connection, None)


async def test_a_token_opens_its_content_and_the_bytes_are_counted(
    client: httpx.AsyncClient, bearer: dict[str, str], egress: EgressCounter, database: Database
) -> None:
    answer = await client.get(f"/content/v1/{DIGEST}", headers=bearer)
    assert answer.status_code == 200
    assert answer.content == BLOB
    assert answer.headers["etag"] == f'"{DIGEST}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == str(len(BLOB))
    assert await sent(egress, database) == {"east": len(BLOB)}


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [("bytes=0-99", 0, 100), ("bytes=3000000-", 3_000_000, len(BLOB)), ("bytes=-1", -1, None)],
)
async def test_a_range_is_sent_and_counted_alone(
    client: httpx.AsyncClient,
    bearer: dict[str, str],
    egress: EgressCounter,
    database: Database,
    header: str,
    start: int,
    end: int | None,
) -> None:
    answer = await client.get(f"/content/v1/{DIGEST}", headers=bearer | {"Range": header})
    assert answer.status_code == 206
    assert answer.content == BLOB[start:end]
    first = start % len(BLOB)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.content) - 1}/{len(BLOB)}"
    assert await sent(egress, database) == {"east": len(answer.content)}


async def test_a_range_outside_is_416_and_counts_nothing(
    client: httpx.AsyncClient, bearer: dict[str, str], egress: EgressCounter, database: Database
) -> None:
    answer = await client.get(f"/content/v1/{DIGEST}", headers=bearer | {"Range": f"bytes={len(BLOB)}-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(BLOB)}"
    assert answer.json()["code"] == "range_unsatisfiable"
    assert await sent(egress, database) == {}


async def test_several_ranges_get_the_whole_content(client: httpx.AsyncClient, bearer: dict[str, str]) -> None:
    answer = await client.get(f"/content/v1/{DIGEST}", headers=bearer | {"Range": "bytes=0-1,5-6"})
    assert (answer.status_code, answer.content) == (200, BLOB)


async def test_a_range_of_another_version_gets_the_whole_content(
    client: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    conditional = bearer | {"Range": "bytes=0-1", "If-Range": '"sha256:other"'}
    assert (await client.get(f"/content/v1/{DIGEST}", headers=conditional)).status_code == 200
    conditional["If-Range"] = f'"{DIGEST}"'
    assert (await client.get(f"/content/v1/{DIGEST}", headers=conditional)).status_code == 206


async def test_head_says_all_and_sends_nothing(
    client: httpx.AsyncClient, bearer: dict[str, str], egress: EgressCounter, database: Database
) -> None:
    answer = await client.head(f"/content/v1/{DIGEST}", headers=bearer)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(BLOB))
    ranged = await client.head(f"/content/v1/{DIGEST}", headers=bearer | {"Range": "bytes=0-9"})
    assert (ranged.status_code, ranged.headers["content-length"]) == (206, "10")
    assert await sent(egress, database) == {}


async def test_what_the_client_has_is_not_sent_again(client: httpx.AsyncClient, bearer: dict[str, str]) -> None:
    answer = await client.get(f"/content/v1/{DIGEST}", headers=bearer | {"If-None-Match": f'"{DIGEST}"'})
    assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic eDp5", "Bearer not-a-token", "Bearer a.b.c"])
async def test_without_a_genuine_token_nothing_is_read(client: httpx.AsyncClient, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for path in (f"/content/v1/{DIGEST}", f"/content/v1/{DIGEST}/metainfo"):
        answer = await client.get(path, headers=headers)
        assert answer.status_code == 401
        assert "bearer" in answer.headers["www-authenticate"].lower()


async def test_a_token_of_another_content_is_refused(client: httpx.AsyncClient, tokens: ContentTokens) -> None:
    headers = authorization(tokens, digest=Digest.of(b"another"))
    answer = await client.get(f"/content/v1/{DIGEST}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "token_for_other")


async def test_an_expired_token_is_refused(
    client: httpx.AsyncClient, bearer: dict[str, str], clock: ManualClock
) -> None:
    clock.tick(37 * 3600)
    answer = await client.get(f"/content/v1/{DIGEST}", headers=bearer)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")


@pytest.mark.parametrize("stranger", ["host/nobody", "regional/nobody", "user/host-e1", "host-e1", ""])
async def test_who_is_not_of_the_fleet_is_refused(
    client: httpx.AsyncClient, tokens: ContentTokens, stranger: str
) -> None:
    answer = await client.get(f"/content/v1/{DIGEST}", headers=authorization(tokens, stranger))
    assert (answer.status_code, answer.json()["code"]) == (403, "bearer_revoked")


async def test_regionals_read_with_their_own_tokens(client: httpx.AsyncClient, tokens: ContentTokens) -> None:
    answer = await client.get(f"/content/v1/{DIGEST}", headers=authorization(tokens, "regional/regional-er"))
    assert answer.content == BLOB


async def test_a_revoked_host_is_refused_within_ten_seconds(
    client: httpx.AsyncClient, bearer: dict[str, str], database: Database, clock: ManualClock
) -> None:
    assert (await client.head(f"/content/v1/{DIGEST}", headers=bearer)).status_code == 200
    await revoke_host(database, "host-e1")
    clock.tick(10)
    answer = await client.get(f"/content/v1/{DIGEST}", headers=bearer)
    assert (answer.status_code, answer.json()["code"]) == (403, "bearer_revoked")


async def test_tokens_of_a_rotated_key_are_good_at_once(
    client: httpx.AsyncClient, bearer: dict[str, str], tokens: ContentTokens, keys: ContentKeys, clock: ManualClock
) -> None:
    assert (await client.head(f"/content/v1/{DIGEST}", headers=bearer)).status_code == 200
    await keys.rotate()
    clock.tick(3601)
    assert (await client.head(f"/content/v1/{DIGEST}", headers=authorization(tokens))).status_code == 200
    assert (await client.head(f"/content/v1/{DIGEST}", headers=bearer)).status_code == 200


@pytest.mark.parametrize("name", ["sha256:short", "latest", "sha256:..%2F..%2Fetc%2Fpasswd", "SHA256:" + "a" * 64])
async def test_what_is_no_digest_is_refused(client: httpx.AsyncClient, bearer: dict[str, str], name: str) -> None:
    answer = await client.get(f"/content/v1/{name}", headers=bearer)
    assert answer.status_code in (400, 404)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_content_that_is_gone_is_404(client: httpx.AsyncClient, tokens: ContentTokens) -> None:
    digest = Digest.of(b"gone")
    answer = await client.get(f"/content/v1/{digest}", headers=authorization(tokens, digest=digest))
    assert answer.status_code == 404


async def test_metainfo_is_promised_made_and_given(
    client: httpx.AsyncClient, bearer: dict[str, str], describer: Describer, jobs: JobService
) -> None:
    answer = await client.get(f"/content/v1/{DIGEST}/metainfo", headers=bearer)
    assert (answer.status_code, answer.json()["code"]) == (503, "metainfo_pending")
    assert int(answer.headers["retry-after"]) >= 1
    for tenant_id, digest in await to_describe(jobs):
        await describer.describe(tenant_id, digest)
    answer = await client.get(f"/content/v1/{DIGEST}/metainfo", headers=bearer)
    assert answer.headers["content-type"] == "application/x-bittorrent"
    assert metainfo.parse(answer.content).length == len(BLOB)


async def test_metainfo_comes_with_a_statement_of_the_key_that_signs_now(
    client: httpx.AsyncClient,
    bearer: dict[str, str],
    describer: Describer,
    keys: ContentKeys,
    tokens: ContentTokens,
    clock: ManualClock,
) -> None:
    await describer.describe("t-acme", DIGEST)
    verifier = StatementVerifier()
    signers = set()
    for _ in range(2):
        answer = await client.get(f"/content/v1/{DIGEST}/metainfo", headers=authorization(tokens))
        claimed = ClaimedMetainfo(answer.headers[HEADER], answer.content)
        verifier.replace_keys(keys.verifying())
        assert verifier.accept(claimed, "t-acme", DIGEST, len(BLOB)).metainfo.encoded == answer.content
        signers.add(claimed.statement.partition(".")[0])
        await keys.rotate()
        clock.tick(2 * 3600)
    assert len(signers) == 2
    with pytest.raises(StatementFalse):
        verifier.accept(claimed, "t-globex", DIGEST)


async def test_small_contents_have_no_metainfo(client: httpx.AsyncClient, shelf: Shelf, tokens: ContentTokens) -> None:
    small = shelf.put(b"a manifest")
    answer = await client.get(
        f"/content/v1/{small.digest}/metainfo", headers=authorization(tokens, digest=small.digest)
    )
    assert (answer.status_code, answer.json()["code"]) == (404, "not_in_swarm")


async def test_nginx_sends_local_files_when_it_stands_in_front(
    build_app: Callable[..., Starlette],
    bearer: dict[str, str],
    shelf: Shelf,
    tmp_path: Path,
    egress: EgressCounter,
    database: Database,
) -> None:
    plain = shelf.content

    async def content(digest: Digest) -> Content:
        found = await plain(digest)
        return Content(found.digest, found.size, found.media_type, found.read, tmp_path / "blob")

    shelf.content = content  # type: ignore[method-assign]
    transport = httpx.ASGITransport(build_app("/internal"))
    async with httpx.AsyncClient(transport=transport, base_url="http://centre") as client:
        answer = await client.get(f"/content/v1/{DIGEST}", headers=bearer | {"Range": "bytes=0-9"})
    assert answer.headers["x-accel-redirect"] == f"/internal/sha256/{DIGEST.hex[:2]}/{DIGEST.hex}"
    assert answer.content == b""
    assert await sent(egress, database) == {"east": 10}


async def test_a_blob_that_cannot_be_opened_is_an_error_and_no_broken_off_answer(
    client: httpx.AsyncClient, bearer: dict[str, str], shelf: Shelf
) -> None:
    async def read(start: int, end: int) -> AsyncGenerator[bytes, None]:
        raise BlobDamaged("the blob has another size")
        yield b""

    async def content(digest: Digest) -> Content:
        return Content(digest, len(BLOB), "application/octet-stream", read)

    shelf.content = content  # type: ignore[method-assign]
    answer = await client.get(f"/content/v1/{DIGEST}", headers=bearer)
    assert (answer.status_code, answer.json()["code"]) == (500, "blob_damaged")


async def test_nothing_is_read_or_counted_for_a_client_that_left(
    build_app: Callable[..., Starlette],
    bearer: dict[str, str],
    shelf: Shelf,
    egress: EgressCounter,
    database: Database,
) -> None:
    """A server as uvicorn is one: it swallows what is sent to a client that is gone, and tells of it by `receive`."""
    chunks = 0
    left = asyncio.Event()
    closed = asyncio.Event()
    plain = shelf.content

    async def content(digest: Digest) -> Content:
        found = await plain(digest)

        async def read(start: int, end: int) -> AsyncGenerator[bytes, None]:
            try:
                async for chunk in found.read(start, end):
                    yield chunk
            finally:
                closed.set()

        return Content(found.digest, found.size, found.media_type, read)

    async def send(message: dict[str, Any]) -> None:
        nonlocal chunks
        if message["type"] == "http.response.body":
            chunks += 1
            if chunks == 2:
                left.set()

    async def receive() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    shelf.content = content  # type: ignore[method-assign]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "path": f"/content/v1/{DIGEST}",
        "raw_path": f"/content/v1/{DIGEST}".encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"authorization", bearer["Authorization"].encode())],
    }
    async with asyncio.timeout(BUSY_SECONDS):
        await build_app()(scope, receive, send)  # type: ignore[arg-type]
    # The second piece was on its way when the client left, the third was never asked for.
    assert chunks == 2
    assert closed.is_set()
    assert await sent(egress, database) == {"east": 2 << 20}
