from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from agent.cache import ContentCache
from agent.mirror import Mirror
from agent.model import Assignments
from common.digest import Digest
from tests.agent.samples import MANIFEST_TYPE, assignment, assignments, noise, sample

SAMPLE = sample(noise(50_000))
MANIFEST = SAMPLE.image.manifest
LAYER = SAMPLE.image.contents[1]


class Site:
    def __init__(self, base: str, cache: ContentCache, http: aiohttp.ClientSession) -> None:
        self.base, self.cache, self.http = base, cache, http
        self.assigned = assignments(assignment(SAMPLE.image))

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        async with self.http.request(method, self.base + path, headers=headers) as response:
            return response.status, dict(response.headers), await response.read()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    cache = ContentCache(tmp_path / "content")
    await cache.open()
    await SAMPLE.put_into(cache, tmp_path)
    async with aiohttp.ClientSession() as http:
        held: list[Site] = []
        async with Mirror(lambda: held[0].assigned, cache) as mirror:
            held.append(Site(f"http://{mirror.address}", cache, http))
            yield held[0]


async def test_it_says_that_it_is_a_registry(site: Site) -> None:
    status, headers, _ = await site.get("/v2/")
    assert (status, headers["Docker-Distribution-Api-Version"]) == (200, "registry/2.0")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_manifest_by_digest(site: Site, method: str) -> None:
    status, headers, body = await site.get(f"/v2/acme/web/manifests/{MANIFEST.digest}", method)
    assert status == 200
    assert headers["Content-Type"] == MANIFEST_TYPE
    assert headers["Docker-Content-Digest"] == str(MANIFEST.digest)
    assert headers["Content-Length"] == str(MANIFEST.size_bytes)
    assert body == (SAMPLE.bytes_of[MANIFEST.digest] if method == "GET" else b"")


async def test_blobs_whole_and_by_range(site: Site) -> None:
    data = SAMPLE.bytes_of[LAYER.digest]
    status, headers, body = await site.get(f"/v2/acme/web/blobs/{LAYER.digest}")
    assert (status, body, headers["Content-Type"]) == (200, data, LAYER.media_type)
    status, headers, body = await site.get(f"/v2/acme/web/blobs/{LAYER.digest}", Range="bytes=100-199")
    assert (status, body, headers["Content-Range"]) == (206, data[100:200], f"bytes 100-199/{len(data)}")
    status, _, body = await site.get(f"/v2/acme/web/blobs/{LAYER.digest}", Range="bytes=-10")
    assert (status, body) == (206, data[-10:])
    status, _, _ = await site.get(f"/v2/acme/web/blobs/{LAYER.digest}", Range=f"bytes={len(data)}-")
    assert status == 416


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/acme/web/manifests/1.4", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/acme/other/manifests/{MANIFEST.digest}", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/acme/web/manifests/{LAYER.digest}", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/acme/web/blobs/{MANIFEST.digest}", 404, "BLOB_UNKNOWN"),
        (f"/v2/umbrella/web/blobs/{LAYER.digest}", 404, "BLOB_UNKNOWN"),
        (f"/v2/acme/web/blobs/{Digest.of(b'not assigned')}", 404, "BLOB_UNKNOWN"),
        ("/v2/acme/web/blobs/sha256:short", 400, "DIGEST_INVALID"),
        ("/v2/acme/web/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/_catalog", 404, "NAME_UNKNOWN"),
        ("/v2/acme/web/blobs/..%2f..%2f..%2fetc%2fpasswd", 400, "DIGEST_INVALID"),
        ("/../../etc/passwd", 404, "NAME_UNKNOWN"),
        (f"/v2/{'a' * 300}/manifests/{MANIFEST.digest}", 404, "MANIFEST_UNKNOWN"),
    ],
)
async def test_everything_else_is_refused_in_the_registrys_words(site: Site, path: str, status: int, code: str) -> None:
    found, _, body = await site.get(path)
    assert (found, json.loads(body)["errors"][0]["code"]) == (status, code)


async def test_nothing_is_served_that_is_no_longer_assigned(site: Site) -> None:
    site.assigned = Assignments()
    status, _, _ = await site.get(f"/v2/acme/web/manifests/{MANIFEST.digest}")
    assert status == 404


async def test_nothing_is_served_that_is_not_held(site: Site) -> None:
    await site.cache.drop(LAYER.digest)
    status, _, _ = await site.get(f"/v2/acme/web/blobs/{LAYER.digest}")
    assert status == 404


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
async def test_nothing_can_be_written(site: Site, method: str) -> None:
    status, _, _ = await site.get(f"/v2/acme/web/manifests/{MANIFEST.digest}", method)
    assert status == 405
