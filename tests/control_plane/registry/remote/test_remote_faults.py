"""A registry behind a line that breaks: what was begun goes on, and ends true or with a failure that names it."""

from __future__ import annotations

import asyncio
import random

import pytest
from aiohttp import web

from common.digest import Digest
from control_plane.registry.remote.failures import (
    RemoteAway,
    RemoteBusy,
    RemoteDenied,
    RemoteMissing,
    RemoteRejected,
    RemoteUntrue,
)
from control_plane.web.outbound import TargetAway
from tests.control_plane.registry.mirroring.scripted import Scripted, scripted_upstream
from tests.control_plane.registry.mirroring.sites import proxied
from tests.control_plane.registry.remote.clients import source_of, talking_to
from tests.engines.docker_registry import DockerRegistry

DATA = random.Random(21).randbytes(700_000)
DIGEST = Digest.of(DATA)


@pytest.mark.parametrize("cuts", [[0], [10, 300], [5_000], [100_000, 200_000, 90_000], [699_999]])
async def test_a_download_goes_on_after_every_break(foreign_registry: DockerRegistry, cuts: list[int]) -> None:
    async with talking_to(foreign_registry.url) as client:
        await client.push.blob("faulty/down", DIGEST, len(DATA), source_of(DATA))
    async with proxied(foreign_registry.port) as proxy, talking_to(f"http://127.0.0.1:{proxy.port}") as client:
        proxy.cuts = list(cuts)
        async with client.download("faulty/down", DIGEST) as download:
            assert b"".join([piece async for piece in download.pieces()]) == DATA


async def test_a_download_that_breaks_for_ever_is_given_up(foreign_registry: DockerRegistry) -> None:
    async with talking_to(foreign_registry.url) as client:
        await client.push.blob("faulty/down", DIGEST, len(DATA), source_of(DATA))
    async with proxied(foreign_registry.port) as proxy, talking_to(f"http://127.0.0.1:{proxy.port}") as client:
        proxy.cuts = [100_000] + [0] * 100
        async with client.download("faulty/down", DIGEST) as download:
            with pytest.raises((RemoteAway, TargetAway)):
                _ = [piece async for piece in download.pieces()]


@pytest.mark.parametrize("spared", range(9))
async def test_a_push_in_chunks_goes_on_after_every_break(foreign_registry: DockerRegistry, spared: int) -> None:
    """The answer to each request in turn is lost: begin, five chunks, the last request, and what asks how far it is."""
    data = random.Random(100 + spared).randbytes(500_000)
    async with proxied(foreign_registry.port) as proxy, talking_to(f"http://127.0.0.1:{proxy.port}") as client:
        proxy.drop_answer = spared
        await client.push.blob("faulty/up", Digest.of(data), len(data), source_of(data, 20_000), chunk_bytes=100_000)
        assert await client.blob_size("faulty/up", Digest.of(data)) == len(data)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RemoteRejected),
        (401, RemoteDenied),
        (403, RemoteDenied),
        (404, RemoteMissing),
        (405, RemoteRejected),
        (413, RemoteRejected),
        (429, RemoteBusy),
        (500, RemoteAway),
        (503, RemoteAway),
    ],
)
async def test_a_failure_says_which_registry_it_was(status: int, kind: type[Exception]) -> None:
    async def fail(_request: web.BaseRequest) -> web.Response:
        body = {"errors": [{"code": "ODD", "message": "as\nthe test\x00wants"}]}
        return web.json_response(body, status=status)

    async with scripted_upstream() as upstream, talking_to(upstream.url) as client:
        upstream.answer = fail
        with pytest.raises(kind) as caught:
            await client.manifest("a/b", "1")
        assert upstream.url.removeprefix("http://") in str(caught.value)
        assert "\n" not in str(caught.value)
        tries = upstream.asked["GET a/b/manifests/1"]
        # 429 without a word means a second, which is more than these clients wait.
        assert tries == (3 if status >= 500 else 1)


async def test_a_short_outage_is_waited_for() -> None:
    async with scripted_upstream() as upstream, talking_to(upstream.url) as client:
        upstream.hold("a/b", "1", b"{}")
        left = [503, 429]

        async def recover(_request: web.BaseRequest) -> web.Response | None:
            return web.Response(status=left.pop(), headers={"Retry-After": "0"}) if left else None

        upstream.answer = recover
        assert (await client.manifest("a/b", "1")).payload == b"{}"


async def test_an_upload_that_is_sent_elsewhere_is_not_followed() -> None:
    async with scripted_upstream() as upstream, scripted_upstream() as other, talking_to(upstream.url) as client:

        async def astray(_request: web.BaseRequest) -> web.Response:
            return web.Response(status=202, headers={"Location": f"{other.url}/v2/a/b/blobs/uploads/1"})

        upstream.answer = astray
        with pytest.raises(RemoteUntrue):
            await client.push.blob("a/b", DIGEST, len(DATA), source_of(DATA))
        assert other.asked.total() == 0


async def test_tags_that_do_not_end_or_lead_away_are_refused() -> None:
    async with scripted_upstream() as upstream, scripted_upstream() as other, talking_to(upstream.url) as client:

        async def astray(_request: web.BaseRequest) -> web.Response:
            headers = {"Link": f'<{other.url}/v2/a/b/tags/list>; rel="next"'}
            return web.json_response({"tags": ["one", "bad tag", 7]}, headers=headers)

        upstream.answer = astray
        tags = client.tags("a/b")
        assert await anext(tags) == "one"
        with pytest.raises(RemoteUntrue):
            await anext(tags)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"token": 7}', b'{"token": "a\\nb"}', b'{"expires_in": "x", "token": "a"}']
)
async def test_a_token_service_that_sends_no_token_is_named(body: bytes) -> None:
    async def guarded(request: web.BaseRequest) -> web.Response:
        if request.path == "/token":
            return web.Response(body=body)
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{upstream.url}/token"'})

    upstream: Scripted
    async with scripted_upstream() as upstream, talking_to(upstream.url) as client:
        upstream.answer = guarded
        with pytest.raises(RemoteUntrue, match="does not send a token"):
            await client.ping()


async def test_a_flood_of_a_manifest_is_cut() -> None:
    async with scripted_upstream() as upstream, talking_to(upstream.url) as client:
        upstream.hold("a/b", "1", b" " * (5 << 20))
        with pytest.raises(RemoteUntrue, match="more than"):
            await client.manifest("a/b", "1")


async def test_many_requests_share_one_new_token() -> None:
    async def guarded(request: web.BaseRequest) -> web.Response | None:
        if request.path == "/token":
            return web.json_response({"token": "good"})
        if request.headers.get("Authorization") == "Bearer good":
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{upstream.url}/token"'})

    upstream: Scripted
    async with scripted_upstream() as upstream, talking_to(upstream.url) as client:
        upstream.hold("a/b", "1", b"{}")
        upstream.answer = guarded
        await asyncio.gather(*(client.manifest("a/b", "1") for _ in range(20)))
        assert upstream.asked["GET /token"] == 1
