"""Indexes whose images are not all there: taken, counted, listed, resolved as far as they go."""

from __future__ import annotations

import httpx
import pytest

from common.clock import ManualClock
from common.digest import Digest
from common.reference import Reference
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database
from control_plane.registry.completeness import Incomplete
from control_plane.registry.failures import BlobInUse, ContentMissing, ManifestUnknown, SizeInvalid
from control_plane.registry.grants import EVERYTHING
from control_plane.registry.manifests import OCI_INDEX, OCI_MANIFEST
from control_plane.registry.service import RegistryService
from control_plane.web.paging import PageRequest
from tests.control_plane.registry.people import ADA, Directory, descriptor, encode, image_manifest, index_manifest
from tests.control_plane.registry.pushing import WEB, Image, push_blob, push_image


async def size_of(registry: RegistryService, tag: str) -> int:
    [row] = (await registry.repositories(EVERYTHING, PageRequest())).items
    return next(each.size_bytes for each in row.tags if each.name == tag)


def weight(*images: Image) -> int:
    return sum(len(data) for image in images for data in (image.config, *image.layers))


async def without_images(registry: RegistryService, *names: str) -> list[Image]:
    """Their blobs are there, their manifests are not."""
    images = [await push_image(registry, name, tag=None) for name in names]
    for image in images:
        await registry.images.delete_manifest(ADA, WEB, image.digest)
    return images


async def test_an_index_is_taken_before_its_images_and_grows_with_them(registry: RegistryService) -> None:
    one, two = await without_images(registry, "amd64", "arm64")
    index = index_manifest([(one.payload, "amd64"), (two.payload, "arm64")])
    outer = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(index, OCI_INDEX)] * 2})
    await registry.images.push(ADA, WEB, outer, None, tags=["outer"])
    await registry.images.push(ADA, WEB, index, None, tags=["multi"])
    assert (await size_of(registry, "multi"), await size_of(registry, "outer")) == (0, 0)
    await registry.images.push(ADA, WEB, one.payload, None)
    assert (await size_of(registry, "multi"), await size_of(registry, "outer")) == (weight(one), weight(one))
    await registry.images.push(ADA, WEB, two.payload, None)
    assert (await size_of(registry, "multi"), await size_of(registry, "outer")) == (weight(one, two),) * 2
    await registry.images.delete_manifest(ADA, WEB, one.digest)
    assert (await size_of(registry, "multi"), await size_of(registry, "outer")) == (weight(two), weight(two))


async def test_a_platforms_image_that_is_not_here_is_named(registry: RegistryService) -> None:
    one, two = await without_images(registry, "amd64", "arm64")
    await registry.images.push(ADA, WEB, one.payload, None)
    index = index_manifest([(one.payload, "amd64"), (two.payload, "arm64")])
    await registry.images.push(ADA, WEB, index, None, tags=["multi"])
    assert (await registry.resolve(Reference.parse(f"{WEB}:multi"), "amd64")).manifest.digest == one.digest
    with pytest.raises(ManifestUnknown) as refused:
        await registry.resolve(Reference.parse(f"{WEB}:multi"), "arm64")
    assert f"{WEB}:multi names an image for linux/arm64, {two.digest}, but" in str(refused.value)


async def test_what_is_here_must_have_the_stated_size(registry: RegistryService) -> None:
    image = await push_image(registry)
    children = [{**descriptor(image.payload, OCI_MANIFEST), "size": 1}, descriptor(b"absent", OCI_MANIFEST)]
    with pytest.raises(SizeInvalid):
        await registry.images.push(
            ADA, WEB, encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}), None
        )


async def test_a_blob_that_an_index_lists_is_in_use(registry: RegistryService) -> None:
    digest = await push_blob(registry, b"a note")
    payload = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(b"a note", "text/plain")]})
    await registry.images.push(ADA, WEB, payload, None, tags=["noted"])
    assert await size_of(registry, "noted") == len(b"a note")
    with pytest.raises(BlobInUse):
        await registry.contents.unlink_blob(ADA, WEB, digest)


@pytest.mark.parametrize(
    ("incomplete", "takes_index", "takes_image"),
    [(Incomplete.NONE, False, False), (Incomplete.INDEXES, True, False), (Incomplete.ALL, True, True)],
)
async def test_how_much_may_be_missing_is_a_setting(
    database: Database,
    blobs: MemoryBlobStore,
    clock: ManualClock,
    incomplete: Incomplete,
    takes_index: bool,
    takes_image: bool,
) -> None:
    registry = RegistryService(database, blobs, Directory("acme"), clock, incomplete=incomplete)
    absent = image_manifest(b"config", [b"layer"])
    for payload, is_taken in ((index_manifest([(absent, "amd64")]), takes_index), (absent, takes_image)):
        if is_taken:
            await registry.images.push(ADA, WEB, payload, None)
            continue
        with pytest.raises(ContentMissing):
            await registry.images.push(ADA, WEB, payload, None)


async def test_an_old_client_gets_the_index_itself_if_its_image_is_missing(
    client: httpx.AsyncClient, local_registry: RegistryService
) -> None:
    index = index_manifest([(image_manifest(b"config", []), "amd64")])
    await local_registry.images.push(ADA, WEB, index, None, tags=["multi"])
    answer = await client.get(f"/v2/{WEB}/manifests/multi", headers={"Accept": OCI_MANIFEST})
    assert (answer.status_code, answer.content) == (200, index)
    assert answer.headers["Docker-Content-Digest"] == str(Digest.of(index))
