"""Mirrors over every store, on disks that fill up, and dockerd as the client."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import aiohttp
import docker
import pytest

from common.digest import Digest
from control_plane.blobs.filesystem import FilesystemBlobStore
from tests.control_plane.blobs.s3_stores import close_all, opened
from tests.control_plane.registry.mirroring.scripted import scripted_upstream
from tests.control_plane.registry.mirroring.sites import HUB, Site, open_site
from tests.control_plane.registry.people import image_manifest
from tests.engines.ceph import S3Bucket
from tests.engines.docker_registry import DockerRegistry
from tests.engines.dockerd import IMAGE, DockerEngine

LAYER = random.Random(8).randbytes(12_000_000)
BLOB = f"{HUB}/web/blobs/{Digest.of(LAYER)}"


@pytest.mark.engine("ceph")
async def test_a_mirror_stores_in_a_bucket(s3: S3Bucket, tmp_path: Path, sqlite_url: str) -> None:
    async with scripted_upstream() as upstream:
        upstream.hold("web", "1", image_manifest(b"{}", (LAYER,)), LAYER, b"{}")
        async with open_site(tmp_path, sqlite_url, blobs=opened(s3)) as site:
            await site.mirror(upstream.url)
            found = await asyncio.gather(*(site.get(BLOB) for _ in range(8)))
            assert all(each == (200, LAYER) for each in found)
            assert await site.blobs.stat(Digest.of(LAYER)) == len(LAYER)
            assert (await site.get(BLOB))[1] == LAYER
            assert upstream.asked[f"GET web/blobs/{Digest.of(LAYER)}"] == 1
            # A false one leaves nothing in the bucket either.
            false = Digest.of(b"what it ought to be")
            upstream.contents[f"web/blobs/{false}"] = LAYER
            with pytest.raises(aiohttp.ClientPayloadError):
                await site.get(f"{HUB}/web/blobs/{false}")
            assert await site.blobs.stat(false) is None
    await close_all()


async def broken(site: Site) -> None:
    try:
        status, body = await site.get(BLOB)
    except aiohttp.ClientPayloadError:
        return
    assert status == 503, body[:200]


async def test_a_full_disk_breaks_the_pull_and_leaves_nothing(tmp_path: Path, sqlite_url: str) -> None:
    full = FilesystemBlobStore(tmp_path / "blobs", reserve_bytes=1 << 60)
    async with scripted_upstream() as upstream, open_site(tmp_path, sqlite_url, blobs=full) as site:
        upstream.hold("web", "1", image_manifest(b"{}", (LAYER,)), LAYER)
        await site.mirror(upstream.url)
        await broken(site)
        assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []


async def test_a_disk_that_fills_up_under_the_spool_breaks_the_pull(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, _data: memoryview, offset: int) -> int:
        if offset > 3_000_000:
            raise OSError(errno.ENOSPC, "no space left on device")
        return write(_descriptor, _data, offset)

    write = os.pwrite
    async with scripted_upstream() as upstream, open_site(tmp_path, sqlite_url) as site:
        upstream.hold("web", "1", image_manifest(b"{}", (LAYER,)), LAYER)
        await site.mirror(upstream.url)
        with monkeypatch.context() as patched:
            patched.setattr("control_plane.registry.mirroring.spool.os.pwrite", full)
            await broken(site)
        assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []
        assert await site.get(BLOB) == (200, LAYER)


@pytest.fixture
def dockerd(docker_host_engine: DockerEngine) -> Iterator[docker.DockerClient]:
    with closing(docker_host_engine.client()) as opened:
        yield opened


@pytest.mark.engine("docker")
async def test_dockerd_pulls_through_a_mirror(
    dockerd: docker.DockerClient, own_foreign_registry: DockerRegistry, tmp_path: Path, sqlite_url: str
) -> None:
    there = f"{own_foreign_registry.address}/library/busybox"
    assert dockerd.images.get(IMAGE).tag(there, "1")
    events = await asyncio.to_thread(lambda: list(dockerd.images.push(there, "1", stream=True, decode=True)))
    assert not [event for event in events if "error" in event]
    before = dockerd.images.get(f"{there}:1").id
    async with open_site(tmp_path, sqlite_url) as site:
        await site.mirror(f"{own_foreign_registry.url}/library")
        name = f"{site.address}/{HUB}/busybox"
        known = {"username": "vera", "password": "secret"}
        for _ in range(2):
            pulled = await asyncio.to_thread(dockerd.images.pull, name, "1", auth_config=known)
            assert pulled.id == before
            dockerd.images.remove(f"{name}:1")
            own_foreign_registry.stop()
    dockerd.images.remove(f"{there}:1")
