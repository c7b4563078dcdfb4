"""Pulling through a mirror of Debian's docker-registry."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.digest import Digest
from common.reference import Reference
from control_plane.registry.failures import ManifestUnknown
from control_plane.registry.manifests import OCI_INDEX, OCI_MANIFEST
from control_plane.registry.mirroring.failures import PushToMirror
from tests.control_plane.registry.mirroring.scripted import scripted_upstream
from tests.control_plane.registry.mirroring.sites import HUB, Site, open_site, proxied, until
from tests.control_plane.registry.people import ADA, BOB, image_manifest, index_manifest
from tests.control_plane.registry.pushing import push_blob
from tests.control_plane.registry.remote.clients import push_image, talking_to
from tests.engines.docker_registry import PASSWORD, USERNAME, DockerRegistry

LAYER = random.Random(5).randbytes(3_000_000)
_names = itertools.count()


@pytest.fixture
def name() -> str:
    """Of a repository in `library/` that no other test uses."""
    return f"image{next(_names)}"


@pytest.fixture
async def site(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Site]:
    async with open_site(tmp_path, sqlite_url) as opened:
        yield opened


async def test_what_is_absent_is_fetched_verified_and_kept(
    site: Site, own_foreign_registry: DockerRegistry, name: str
) -> None:
    engine = own_foreign_registry
    async with talking_to(engine.url) as client:
        payload, digest = await push_image(client, f"library/{name}", "1.0", (LAYER,))
    await site.mirror(f"{engine.url}/library")
    assert await site.get(f"{HUB}/{name}/manifests/1.0") == (200, payload)
    assert await site.head(f"{HUB}/{name}/manifests/{digest}") == (200, str(digest))
    assert await site.get(f"{HUB}/{name}/blobs/{Digest.of(LAYER)}") == (200, LAYER)
    assert await site.get(f"{HUB}/{name}/blobs/{Digest.of(b'{}')}") == (200, b"{}")
    engine.stop()
    assert await site.get(f"{HUB}/{name}/manifests/1.0") == (200, payload)
    assert await site.get(f"{HUB}/{name}/manifests/{digest}") == (200, payload)
    assert await site.get(f"{HUB}/{name}/blobs/{Digest.of(LAYER)}") == (200, LAYER)
    assert await site.get(f"{HUB}/{name}/blobs/{Digest.of(LAYER)}", Range="bytes=10-19") == (206, LAYER[10:20])
    assert site.spooled() == []


async def test_a_single_repository_can_be_a_mirror(site: Site, foreign_registry: DockerRegistry, name: str) -> None:
    async with talking_to(foreign_registry.url) as client:
        payload, _ = await push_image(client, f"library/{name}", "1.0")
    await site.mirror(f"{foreign_registry.url}/library/{name}", "acme/just-this")
    assert await site.get("acme/just-this/manifests/1.0") == (200, payload)


async def test_an_index_brings_the_image_that_is_asked_for(
    site: Site, foreign_registry: DockerRegistry, name: str
) -> None:
    async with talking_to(foreign_registry.url) as client:
        images = [await push_image(client, f"library/{name}", each, (each.encode(),)) for each in ("amd64", "arm64")]
        index = index_manifest([(images[0][0], "amd64"), (images[1][0], "arm64")])
        await client.push.manifest(f"library/{name}", "multi", OCI_INDEX, index)
    await site.mirror(f"{foreign_registry.url}/library")
    assert await site.get(f"{HUB}/{name}/manifests/multi", Accept=f"{OCI_INDEX}, {OCI_MANIFEST}") == (200, index)
    assert await site.get(f"{HUB}/{name}/manifests/{images[1][1]}") == (200, images[1][0])
    # As Docker before manifest lists asks.
    assert await site.get(f"{HUB}/{name}/manifests/multi", Accept=OCI_MANIFEST) == (200, images[0][0])


async def test_a_tag_is_asked_for_again_when_it_is_old(site: Site, foreign_registry: DockerRegistry, name: str) -> None:
    async with talking_to(foreign_registry.url) as client:
        first, _ = await push_image(client, f"library/{name}", "latest", (b"one",))
        await site.mirror(f"{foreign_registry.url}/library")
        assert (await site.get(f"{HUB}/{name}/manifests/latest"))[1] == first
        second, _ = await push_image(client, f"library/{name}", "latest", (b"two",))
        assert (await site.get(f"{HUB}/{name}/manifests/latest"))[1] == first
        site.clock.ahead += 61
        assert (await site.get(f"{HUB}/{name}/manifests/latest"))[1] == second


async def test_a_tag_that_did_not_move_costs_one_head(
    site: Site, own_foreign_registry: DockerRegistry, name: str
) -> None:
    engine = own_foreign_registry
    async with talking_to(engine.url) as client:
        await push_image(client, f"library/{name}", "latest")
    await site.mirror(f"{engine.url}/library")
    for _ in range(3):
        assert (await site.get(f"{HUB}/{name}/manifests/latest"))[0] == 200
        site.clock.ahead += 61
    assert len(engine.requests(f'"GET /v2/library/{name}/manifests/latest')) == 1
    assert len(engine.requests(f'"HEAD /v2/library/{name}/manifests/latest')) == 2


async def test_an_old_tag_is_served_while_upstream_is_away(
    site: Site, own_foreign_registry: DockerRegistry, name: str
) -> None:
    engine = own_foreign_registry
    async with talking_to(engine.url) as client:
        first, _ = await push_image(client, f"library/{name}", "latest", (b"one",))
        await site.mirror(f"{engine.url}/library")
        await site.get(f"{HUB}/{name}/manifests/latest")
        engine.stop()
        for _ in range(3):
            site.clock.ahead += 3600
            assert await site.get(f"{HUB}/{name}/manifests/latest") == (200, first)
        status, body = await site.get(f"{HUB}/{name}/manifests/other")
        assert status == 503
        assert HUB.encode() in body
        engine.start()
        second, _ = await push_image(client, f"library/{name}", "latest", (b"two",))
        site.clock.ahead += 3600
        assert await site.get(f"{HUB}/{name}/manifests/latest") == (200, second)


async def test_a_tag_that_is_gone_upstream_is_gone(site: Site, foreign_registry: DockerRegistry, name: str) -> None:
    async with talking_to(foreign_registry.url) as client:
        _, digest = await push_image(client, f"library/{name}", "latest")
        await site.mirror(f"{foreign_registry.url}/library")
        assert (await site.get(f"{HUB}/{name}/manifests/latest"))[0] == 200
        await client.delete(f"library/{name}", "manifests", digest)
    site.clock.ahead += 61
    assert (await site.get(f"{HUB}/{name}/manifests/latest"))[0] == 404
    assert (await site.get(f"{HUB}/{name}/manifests/{digest}"))[0] == 200


async def test_what_is_nowhere_is_not_asked_for_again_at_once(
    site: Site, own_foreign_registry: DockerRegistry, name: str
) -> None:
    engine = own_foreign_registry
    async with talking_to(engine.url) as client:
        await push_image(client, f"library/{name}", "latest")
    await site.mirror(f"{engine.url}/library")
    absent = Digest.of(b"nowhere")
    paths = [f"manifests/{absent}", "manifests/nowhere", f"blobs/{absent}"]
    for path in paths * 3:
        assert (await site.get(f"{HUB}/{name}/{path}"))[0] == 404
    assert len(engine.requests(f"/library/{name}/manifests/")) == 3  # the push, and one for each
    assert (await site.get(f"{HUB}/{name}/manifests/latest"))[0] == 200


@pytest.mark.parametrize("path", ["manifests/latest", f"blobs/{Digest.of(b'{}')}"])
async def test_the_rights_of_the_repository_hold(
    site: Site, foreign_registry: DockerRegistry, name: str, path: str
) -> None:
    async with talking_to(foreign_registry.url) as client:
        await push_image(client, f"library/{name}", "latest")
    await site.mirror(f"{foreign_registry.url}/library")
    before = foreign_registry.requests(f"library/{name}/")
    for _ in range(2):
        assert (await site.get(f"{HUB}/{name}/{path}", Authorization="Bearer bob"))[0] == 404
        async with site.http.get(
            f"http://{site.address}/v2/{HUB}/{name}/{path}", headers={"Authorization": "Basic Og=="}
        ) as answer:
            assert answer.status == 401
    assert foreign_registry.requests(f"library/{name}/") == before


async def test_nobody_pushes_into_a_mirror(site: Site, foreign_registry: DockerRegistry) -> None:
    await site.mirror(f"{foreign_registry.url}/library")
    with pytest.raises(PushToMirror):
        await push_blob(site.registry, b"mine", f"{HUB}/mine")
    with pytest.raises(PushToMirror):
        await site.registry.uploads.start(ADA, HUB)
    with pytest.raises(PushToMirror):
        await site.registry.images.push(ADA, f"{HUB}/mine", b"{}", OCI_MANIFEST, tags=["x"])
    await push_blob(site.registry, b"mine", "acme/hub-beside")
    with pytest.raises(PushToMirror):
        await site.registry.uploads.mount(ADA, f"{HUB}/mine", Digest.of(b"mine"), "acme/hub-beside")


async def test_a_mirror_gives_nobody_a_blob_that_only_another_tenant_has(
    site: Site, foreign_registry: DockerRegistry, name: str
) -> None:
    """The upstream is the attacker's: its manifest names the digest of a blob that it does not have."""
    secret = b"what birch alone may read"
    await push_blob(site.registry, secret, "birch/private", BOB)
    async with talking_to(foreign_registry.url) as client:
        await push_image(client, f"library/{name}", "bait")
    await site.mirror(f"{foreign_registry.url}/library")
    assert (await site.get(f"{HUB}/{name}/manifests/bait"))[0] == 200
    assert (await site.get(f"{HUB}/{name}/blobs/{Digest.of(secret)}"))[0] == 404
    assert (await site.head(f"{HUB}/{name}/blobs/{Digest.of(secret)}"))[0] == 404


async def test_a_login_and_an_authority_of_the_upstreams_own(
    site: Site, guarded_foreign_registry: DockerRegistry, name: str
) -> None:
    engine = guarded_foreign_registry
    assert engine.tls is not None
    known = {"username": USERNAME, "password": PASSWORD}
    async with talking_to(engine.url, ca_pem=engine.tls.ca_pem, username=USERNAME, password=PASSWORD) as client:
        payload, _ = await push_image(client, f"library/{name}", "1.0")
    await site.mirror(f"{engine.url}/library", ca_pem=engine.tls.ca_pem, **known)
    assert await site.get(f"{HUB}/{name}/manifests/1.0") == (200, payload)
    await site.mirroring.service.change(ADA, HUB, credentials=(USERNAME, "changed there"))
    site.clock.ahead += 6
    status, body = await site.get(f"{HUB}/{name}/manifests/2.0")
    assert status == 503
    assert b"the mirror acme/hub" in body
    assert b"credentials" in body
    # What is here is served all the same.
    site.clock.ahead += 600
    assert await site.get(f"{HUB}/{name}/manifests/1.0") == (200, payload)


async def test_one_fetch_serves_all_who_ask_at_once(
    site: Site, own_foreign_registry: DockerRegistry, name: str
) -> None:
    engine = own_foreign_registry
    async with talking_to(engine.url) as client:
        await push_image(client, f"library/{name}", "1.0", (LAYER,))
    await site.mirror(f"{engine.url}/library")
    path = f"{HUB}/{name}/blobs/{Digest.of(LAYER)}"
    found = await asyncio.gather(*(site.get(path) for _ in range(64)))
    assert all(each == (200, LAYER) for each in found)
    found = await asyncio.gather(*(site.get(f"{HUB}/{name}/manifests/1.0") for _ in range(64)))
    assert len(set(found)) == 1
    assert len(engine.requests(f'"GET /v2/library/{name}/blobs/')) == 1
    assert len(engine.requests(f'"GET /v2/library/{name}/manifests/')) == 1


async def test_a_client_reads_while_the_blob_is_still_coming_and_late_ones_join(
    site: Site, foreign_registry: DockerRegistry, name: str
) -> None:
    async with talking_to(foreign_registry.url) as client, proxied(foreign_registry.port) as proxy:
        await push_image(client, f"library/{name}", "1.0", (LAYER,))
        proxy.pause_at = 1_500_000
        await site.mirror(f"http://127.0.0.1:{proxy.port}/library")
        url = f"http://{site.address}/v2/{HUB}/{name}/blobs/{Digest.of(LAYER)}"
        async with site.http.get(url) as early, site.http.get(url, headers={"Range": "bytes=1000-"}) as late:
            await proxy.paused.wait()
            assert await early.content.readexactly(1_000_000) == LAYER[:1_000_000]
            assert late.status == 206
            assert await late.content.readexactly(1_000_000) == LAYER[1000:1_001_000]
            # One leaves; the fetch goes on, for the other and for the store.
            early.close()
            proxy.go.set()
            assert await late.content.read() == LAYER[1_001_000:]
    assert await site.registry.contents.blob_size(ADA, f"{HUB}/{name}", Digest.of(LAYER)) == len(LAYER)


async def test_a_fetch_goes_on_when_its_only_client_leaves(
    site: Site, foreign_registry: DockerRegistry, name: str
) -> None:
    async with talking_to(foreign_registry.url) as client, proxied(foreign_registry.port) as proxy:
        await push_image(client, f"library/{name}", "1.0", (LAYER,))
        proxy.pause_at = 1_500_000
        await site.mirror(f"http://127.0.0.1:{proxy.port}/library")
        url = f"http://{site.address}/v2/{HUB}/{name}/blobs/{Digest.of(LAYER)}"
        async with site.http.get(url) as answer:
            await answer.content.readexactly(100)
        proxy.go.set()
        stored = Digest.of(LAYER)
        await until(lambda: (site.root / "blobs/blobs/sha256" / stored.hex[:2] / stored.hex).exists())


@pytest.mark.parametrize("cut", [0, 1, 200, 400, 1000, 70_000, 1_500_000, 2_999_000, 3_000_200])
async def test_an_upstream_that_is_cut_is_gone_on_with(
    site: Site, foreign_registry: DockerRegistry, name: str, cut: int
) -> None:
    async with talking_to(foreign_registry.url) as client, proxied(foreign_registry.port) as proxy:
        await push_image(client, f"library/{name}", "1.0", (LAYER,))
        await site.mirror(f"http://127.0.0.1:{proxy.port}/library")
        proxy.cuts = [cut]
        assert await site.get(f"{HUB}/{name}/blobs/{Digest.of(LAYER)}") == (200, LAYER)
        assert proxy.connections >= 2 or cut > 3_000_000


async def test_an_image_that_is_to_run_is_fetched_whole(
    site: Site, foreign_registry: DockerRegistry, name: str
) -> None:
    async with talking_to(foreign_registry.url) as client:
        _, digest = await push_image(client, f"library/{name}", "1.0", (LAYER, b"top"))
    await site.mirror(f"{foreign_registry.url}/library")
    image = await site.registry.resolve(Reference.parse(f"{HUB}/{name}:1.0"))
    assert image.manifest.digest == digest
    for descriptor in image.contents:
        assert (await site.registry.content(descriptor.digest)).size == descriptor.size


async def test_an_image_that_names_somebody_elses_blob_does_not_run(site: Site, name: str) -> None:
    secret = b"what birch alone may run"
    await push_blob(site.registry, secret, "birch/private", BOB)
    async with scripted_upstream() as upstream:
        upstream.hold(name, "bait", image_manifest(b"{}", (secret,)), b"{}")
        await site.mirror(upstream.url)
        with pytest.raises(ManifestUnknown, match="does not hold"):
            await site.registry.resolve(Reference.parse(f"{HUB}/{name}:bait"))
