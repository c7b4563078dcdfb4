"""The same tests against Debian's docker-registry and against our own server."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator

import pytest

from common.digest import Digest
from control_plane.registry.manifests import OCI_MANIFEST
from control_plane.registry.remote.client import RegistryClient
from control_plane.registry.remote.failures import RemoteDenied, RemoteMissing, RemoteRejected
from control_plane.web.outbound import TargetAway
from tests.control_plane.registry.people import descriptor, image_manifest
from tests.control_plane.registry.remote.clients import push_image, source_of, talking_to
from tests.engines.docker_registry import PASSWORD, USERNAME, DockerRegistry
from tests.registry_clients.serving import ServedRegistry, served_registry

BIG = random.Random(7).randbytes(3_000_000)
NAME = "acme/remote"


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedRegistry]:
    with served_registry(tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.fixture(params=["docker-registry", "longshore"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[RegistryClient]:
    if request.param == "longshore":
        served: ServedRegistry = request.getfixturevalue("own_server")
        async with talking_to(f"http://{served.address}", username="ada", password="secret") as opened:
            yield opened
    else:
        engine: DockerRegistry = request.getfixturevalue("foreign_registry")
        async with talking_to(engine.url) as opened:
            yield opened


async def test_what_is_pushed_can_be_pulled(client: RegistryClient) -> None:
    await client.ping()
    payload, digest = await push_image(client, NAME, "one", (BIG, b"top"))
    found = await client.manifest(NAME, "one")
    assert (found.payload, found.digest, found.media_type) == (payload, digest, OCI_MANIFEST)
    assert await client.manifest(NAME, digest) == found
    assert await client.manifest_digest(NAME, "one") == digest
    assert await client.blob_size(NAME, Digest.of(BIG)) == len(BIG)
    async with client.download(NAME, Digest.of(BIG)) as download:
        assert download.size == len(BIG)
        assert b"".join([piece async for piece in download.pieces()]) == BIG


async def test_a_download_begins_where_it_is_asked_to(client: RegistryClient) -> None:
    await client.push.blob(NAME, Digest.of(BIG), len(BIG), source_of(BIG))
    async with client.download(NAME, Digest.of(BIG), 2_999_000) as download:
        assert b"".join([piece async for piece in download.pieces()]) == BIG[2_999_000:]


async def test_a_blob_goes_in_chunks(client: RegistryClient) -> None:
    data = random.Random(9).randbytes(1_000_001)
    await client.push.blob(NAME, Digest.of(data), len(data), source_of(data), chunk_bytes=300_000)
    assert await client.blob_size(NAME, Digest.of(data)) == len(data)


async def test_an_empty_blob_can_be_pushed(client: RegistryClient) -> None:
    await client.push.blob(NAME, Digest.of(b""), 0, source_of(b""))
    assert await client.blob_size(NAME, Digest.of(b"")) == 0


async def test_a_blob_under_a_false_digest_is_refused(client: RegistryClient) -> None:
    with pytest.raises(RemoteRejected):
        await client.push.blob(NAME, Digest.of(b"another"), 4, source_of(b"this"))
    assert await client.blob_size(NAME, Digest.of(b"another")) is None


async def test_a_blob_is_mounted_from_another_repository(client: RegistryClient) -> None:
    await client.push.blob(NAME, Digest.of(b"mounted"), 7, source_of(b"mounted"))
    assert await client.push.mount("acme/other", Digest.of(b"mounted"), NAME)
    assert await client.blob_size("acme/other", Digest.of(b"mounted")) == 7
    assert not await client.push.mount("acme/other", Digest.of(b"nowhere"), NAME)


async def test_tags_come_page_by_page(client: RegistryClient) -> None:
    names = [f"v{number}" for number in range(7)]
    payload, _ = await push_image(client, "acme/tagged", names[0])
    for name in names[1:]:
        await client.push.manifest("acme/tagged", name, OCI_MANIFEST, payload)
    assert sorted([tag async for tag in client.tags("acme/tagged", page=3)]) == names


async def test_what_is_not_there_is_missing(client: RegistryClient) -> None:
    await push_image(client, NAME, "one")
    with pytest.raises(RemoteMissing):
        await client.manifest(NAME, "absent")
    with pytest.raises(RemoteMissing):
        await client.manifest_digest(NAME, Digest.of(b"absent"))
    with pytest.raises(RemoteMissing):
        async with client.download(NAME, Digest.of(b"absent")):
            pass
    assert await client.blob_size(NAME, Digest.of(b"absent")) is None


async def test_a_manifest_can_be_deleted(client: RegistryClient) -> None:
    _, digest = await push_image(client, NAME, "doomed", (b"doomed",))
    assert await client.delete(NAME, "manifests", digest)
    assert not await client.delete(NAME, "manifests", digest)


async def test_referrers_are_found(client: RegistryClient) -> None:
    payload, digest = await push_image(client, NAME, "subject", (b"subject",))
    await client.push.blob(NAME, Digest.of(b"{}"), 2, source_of(b"{}"))
    signature = image_manifest(b"{}", (), subject=descriptor(payload, OCI_MANIFEST), artifactType="text/signature")
    await client.push.manifest(NAME, Digest.of(signature), OCI_MANIFEST, signature)
    found = await client.referrers(NAME, digest)
    # docker-registry 2.8 knows no referrers, and nobody pushed the fallback tag.
    assert [each.digest for each in found] in ([Digest.of(signature)], [])


async def test_a_login_over_tls_with_an_authority_of_its_own(guarded_foreign_registry: DockerRegistry) -> None:
    engine = guarded_foreign_registry
    assert engine.tls is not None
    ca_pem = engine.tls.ca_pem
    async with talking_to(engine.url, username=USERNAME, password=PASSWORD, ca_pem=ca_pem) as client:
        await push_image(client, NAME, "one")
        assert [tag async for tag in client.tags(NAME)] == ["one"]
    async with talking_to(engine.url, username=USERNAME, password="wrong", ca_pem=ca_pem) as client:
        with pytest.raises(RemoteDenied, match="check the user name"):
            await client.ping()
    async with talking_to(engine.url, username=USERNAME, password=PASSWORD) as client:
        with pytest.raises(TargetAway, match="no certificate that is trusted"):
            await client.ping()
