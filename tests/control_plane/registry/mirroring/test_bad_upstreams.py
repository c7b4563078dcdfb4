"""Upstreams that lie, fail or lead astray: nothing false is kept or handed out, and what is here is served."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from common.clock import SystemClock
from common.digest import Digest
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.registry.manifests import OCI_MANIFEST
from tests.control_plane.registry.mirroring.scripted import Scripted, scripted_upstream
from tests.control_plane.registry.mirroring.sites import HUB, Site, open_site
from tests.control_plane.registry.people import ADA, image_manifest

LAYER = random.Random(6).randbytes(1_000_000)
MANIFEST = image_manifest(b"{}", (LAYER,))
OTHER = image_manifest(b"{}", (LAYER, b"more"))
WEB = f"{HUB}/web"
BLOB = f"{WEB}/blobs/{Digest.of(LAYER)}"


@pytest.fixture
async def upstream() -> AsyncIterator[Scripted]:
    async with scripted_upstream() as opened:
        opened.hold("web", "1", MANIFEST, LAYER, b"{}")
        yield opened


@pytest.fixture
async def site(tmp_path: Path, sqlite_url: str, upstream: Scripted) -> AsyncIterator[Site]:
    async with open_site(tmp_path, sqlite_url) as opened:
        await opened.mirror(upstream.url)
        yield opened


def stored(site: Site) -> list[Path]:
    return [path for path in (site.root / "blobs").rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 1_000_000])
async def test_a_false_blob_is_never_published_nor_handed_out(site: Site, upstream: Scripted, size: int) -> None:
    data = random.Random(size).randbytes(size)
    digest = Digest.of(data + b"what it ought to be")
    upstream.contents[f"web/blobs/{digest}"] = data
    for _ in range(2):
        try:
            status, body = await site.get(f"{WEB}/blobs/{digest}")
        except aiohttp.ClientPayloadError:
            status, body = 0, b""
        assert status in (0, 503)
        assert body != data or not data
    assert stored(site) == []
    assert site.spooled() == []


async def test_a_blob_that_ends_early_or_late_is_not_the_blob(site: Site, upstream: Scripted) -> None:
    upstream.contents[f"web/blobs/{Digest.of(LAYER)}"] = LAYER[:-1]
    with pytest.raises(aiohttp.ClientPayloadError):
        await site.get(BLOB)
    upstream.contents[f"web/blobs/{Digest.of(LAYER)}"] = LAYER + b"x"
    with pytest.raises(aiohttp.ClientPayloadError):
        await site.get(BLOB)
    assert stored(site) == []
    upstream.contents[f"web/blobs/{Digest.of(LAYER)}"] = LAYER
    assert await site.get(BLOB) == (200, LAYER)


async def test_a_false_manifest_is_not_kept(site: Site, upstream: Scripted) -> None:
    digest = Digest.of(OTHER)
    upstream.contents[f"web/manifests/{digest}"] = MANIFEST
    status, body = await site.get(f"{WEB}/manifests/{digest}")
    assert status == 503
    assert b"upstream_untrue" in body
    upstream.contents[f"web/manifests/{digest}"] = OTHER
    assert await site.get(f"{WEB}/manifests/{digest}") == (200, OTHER)


async def test_a_tag_whose_header_names_another_manifest_is_not_believed(site: Site, upstream: Scripted) -> None:
    async def lie(request: web.BaseRequest) -> web.Response | None:
        headers = {"Docker-Content-Digest": str(Digest.of(OTHER)), "Content-Type": OCI_MANIFEST}
        return web.Response(body=MANIFEST, headers=headers) if "manifests" in request.path else None

    upstream.answer = lie
    assert (await site.get(f"{WEB}/manifests/1"))[0] == 503


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"no json", b'{"schemaVersion": 1}', b"x" * (5 << 20)])
async def test_what_is_no_manifest_is_refused_without_a_500(site: Site, upstream: Scripted, payload: bytes) -> None:
    upstream.contents["web/manifests/odd"] = payload
    status, body = await site.get(f"{WEB}/manifests/odd")
    assert status == 503, body
    assert (await site.get(f"{WEB}/manifests/1"))[0] == 200


@pytest.mark.parametrize("status", [401, 403, 429, 500, 502, 503])
async def test_what_is_here_is_served_whatever_upstream_answers(site: Site, upstream: Scripted, status: int) -> None:
    assert (await site.get(f"{WEB}/manifests/1"))[0] == 200
    assert (await site.get(BLOB))[0] == 200

    async def fail(_request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "120"})

    upstream.answer = fail
    site.clock.ahead += 61
    assert await site.get(f"{WEB}/manifests/1") == (200, MANIFEST)
    assert await site.get(BLOB) == (200, LAYER)
    assert (await site.get(f"{WEB}/manifests/2"))[0] == 503
    upstream.answer = None
    upstream.hold("web", "1", OTHER)
    site.clock.ahead += 121
    assert await site.get(f"{WEB}/manifests/1") == (200, OTHER)


async def test_an_upstream_that_wants_to_be_left_alone_is(site: Site, upstream: Scripted) -> None:
    async def busy(_request: web.BaseRequest) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "120"})

    upstream.answer = busy
    async with site.http.get(f"http://{site.address}/v2/{WEB}/manifests/1") as answer:
        assert (answer.status, int(answer.headers["Retry-After"])) == (503, 120)
    before = upstream.asked.total()
    for path in ("manifests/1", "manifests/2", f"manifests/{Digest.of(OTHER)}", f"blobs/{Digest.of(LAYER)}"):
        assert (await site.get(f"{WEB}/{path}"))[0] == 503
    assert upstream.asked.total() == before


async def test_the_credentials_are_not_sent_to_a_stranger(tmp_path: Path, sqlite_url: str, upstream: Scripted) -> None:
    async with scripted_upstream() as thief, open_site(tmp_path, sqlite_url) as site:
        await site.mirror(upstream.url, username="robot", password="hunter2")
        realm = thief.url.replace("127.0.0.1", "localhost") + "/token"

        async def challenge(_request: web.BaseRequest) -> web.Response:
            return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'})

        upstream.answer = challenge
        status, body = await site.get(f"{WEB}/manifests/1")
        assert status == 503
        assert b"not known to belong to it" in body
        assert thief.asked.total() == 0
        assert "Basic" not in "".join(upstream.authorizations)

        async def elsewhere(_request: web.BaseRequest) -> web.Response:
            return web.Response(status=307, headers={"Location": thief.url + "/v2/web/manifests/1"})

        async def asks_basic(request: web.BaseRequest) -> web.Response | None:
            if "Authorization" not in request.headers:
                return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
            return await elsewhere(request)

        upstream.answer = asks_basic
        thief.hold("web", "1", MANIFEST)
        site.clock.ahead += 300
        assert (await site.get(f"{WEB}/manifests/1"))[0] == 200
        assert thief.authorizations == [""]


@pytest.mark.parametrize(
    "target", ["http://127.0.0.2/x", "http://169.254.169.254/latest", "http://0x7f.1/", "file:///etc/passwd"]
)
async def test_a_blob_that_is_redirected_inwards_is_not_fetched(site: Site, upstream: Scripted, target: str) -> None:
    async def astray(request: web.BaseRequest) -> web.Response | None:
        return web.Response(status=307, headers={"Location": target}) if "blobs" in request.path else None

    upstream.answer = astray
    assert (await site.get(BLOB))[0] == 503


async def test_a_token_is_fetched_once_and_used_again(tmp_path: Path, sqlite_url: str, upstream: Scripted) -> None:
    async def guarded(request: web.BaseRequest) -> web.Response | None:
        if request.path == "/token":
            assert request.query["scope"] == "repository:web:pull"
            return web.json_response({"token": "good", "expires_in": 300})
        if request.headers.get("Authorization") == "Bearer good":
            return None
        challenge = f'Bearer realm="{upstream.url}/token",service="x",scope="repository:web:pull"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    upstream.answer = guarded
    async with open_site(tmp_path, sqlite_url) as site:
        await site.mirror(upstream.url)
        assert (await site.get(f"{WEB}/manifests/1"))[0] == 200
        assert await site.get(BLOB) == (200, LAYER)
        assert upstream.asked["GET /token"] == 1


async def test_a_full_store_breaks_the_pull_and_keeps_nothing(
    tmp_path: Path, sqlite_url: str, upstream: Scripted
) -> None:
    blobs = MemoryBlobStore(SystemClock(), capacity=600_000)
    async with open_site(tmp_path, sqlite_url, blobs=blobs) as site:
        await site.mirror(upstream.url)
        with pytest.raises(aiohttp.ClientPayloadError):
            await site.get(BLOB)
        assert await blobs.stat(Digest.of(LAYER)) is None
        assert await site.get(f"{WEB}/blobs/{Digest.of(b'{}')}") == (200, b"{}")


async def test_a_store_without_files_serves_a_mirror_too(tmp_path: Path, sqlite_url: str, upstream: Scripted) -> None:
    blobs = MemoryBlobStore(SystemClock())
    async with open_site(tmp_path, sqlite_url, blobs=blobs) as site:
        await site.mirror(upstream.url)
        assert await site.get(BLOB) == (200, LAYER)
        assert await site.get(BLOB) == (200, LAYER)
        assert upstream.asked[f"GET web/blobs/{Digest.of(LAYER)}"] == 1


async def test_a_head_costs_no_transfer(site: Site, upstream: Scripted) -> None:
    assert (await site.head(BLOB))[0] == 200
    assert upstream.asked == {f"HEAD web/blobs/{Digest.of(LAYER)}": 1}


async def test_an_ended_mirror_keeps_what_it_has_and_can_be_pushed_to(site: Site, upstream: Scripted) -> None:
    assert (await site.get(f"{WEB}/manifests/1"))[0] == 200
    await site.mirroring.service.remove(ADA, HUB)
    upstream.answer = None
    assert (await site.get(f"{WEB}/manifests/1"))[0] == 200
    assert (await site.get(BLOB))[0] == 404
    await site.registry.uploads.start(ADA, WEB)
