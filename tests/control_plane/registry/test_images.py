"""Manifests and tags, on both database engines."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from common.clock import ManualClock
from common.digest import Digest, DigestMismatch
from common.errors import Denied, Failure, Unauthenticated
from common.reference import TagInvalid
from control_plane.database import Database
from control_plane.database.outbox import outbox
from control_plane.registry.failures import (
    BlobInUse,
    ContentMissing,
    ManifestInvalid,
    ManifestUnknown,
    RepositoryUnknown,
    SizeInvalid,
)
from control_plane.registry.grants import EVERYTHING
from control_plane.registry.manifests import OCI_INDEX, OCI_MANIFEST
from control_plane.registry.service import RegistryService
from control_plane.tenants.access import ANONYMOUS, Principal
from control_plane.web.paging import PageRequest
from tests.control_plane.registry.people import (
    ADA,
    BOB,
    OTTO,
    VERA,
    descriptor,
    encode,
    image_manifest,
    index_manifest,
)
from tests.control_plane.registry.pushing import WEB, push_blob, push_image, push_index


async def announced(database: Database) -> list[tuple[str, dict[str, Any]]]:
    async with database.reading() as connection:
        rows = (await connection.execute(select(outbox).order_by(outbox.c.id))).all()
    return [(row.topic.removeprefix("registry."), row.payload) for row in rows]


async def test_what_was_pushed_is_pulled_byte_for_byte_by_tag_and_by_digest(registry: RegistryService) -> None:
    image = await push_image(registry, tag="1.4")
    for reference in ("1.4", image.digest):
        found = await registry.images.find(VERA, WEB, reference)
        assert (found.payload, found.media_type, found.digest) == (image.payload, OCI_MANIFEST, image.digest)


async def test_a_manifest_needs_its_blobs_in_the_same_repository(registry: RegistryService) -> None:
    await push_blob(registry, b"config")
    await push_blob(registry, b"layer", "acme/other")
    payload = image_manifest(b"config", [b"layer", b"absent"])
    with pytest.raises(ContentMissing) as refused:
        await registry.images.push(ADA, WEB, payload, OCI_MANIFEST, tags=["latest"])
    assert set(refused.value.blobs) == {Digest.of(b"layer"), Digest.of(b"absent")}
    with pytest.raises(ManifestUnknown):
        await registry.images.find(ADA, WEB, "latest")
    with pytest.raises(ManifestUnknown):
        await registry.images.find(ADA, WEB, Digest.of(payload))


async def test_an_index_may_list_what_is_a_blob(registry: RegistryService) -> None:
    await push_blob(registry, b"a note")
    payload = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(b"a note", "text/plain")]})
    assert (await registry.images.push(ADA, WEB, payload, OCI_INDEX)).manifest.digest == Digest.of(payload)


async def test_stated_sizes_must_be_the_real_ones(registry: RegistryService) -> None:
    image = await push_image(registry)
    lying = image.payload.replace(b'"size":%d' % len(image.layers[0]), b'"size":999', 1)
    assert lying != image.payload
    with pytest.raises(SizeInvalid):
        await registry.images.push(ADA, WEB, lying, OCI_MANIFEST)
    child = {**descriptor(image.payload, OCI_MANIFEST), "size": 1}
    with pytest.raises(SizeInvalid):
        await registry.images.push(
            ADA, WEB, encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]}), OCI_INDEX
        )


async def test_layers_that_live_elsewhere_and_absent_subjects_are_no_obstacle(registry: RegistryService) -> None:
    await push_blob(registry, b"config")
    payload = encode(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(b"config", "application/vnd.oci.image.config.v1+json"),
            "layers": [
                descriptor(
                    b"far", "application/vnd.oci.image.layer.nondistributable.v1.tar", urls=["https://e.com/far"]
                )
            ],
            "subject": descriptor(b"absent", OCI_MANIFEST),
        }
    )
    await registry.images.push(ADA, WEB, payload, OCI_MANIFEST, tags=["far"])
    assert (await registry.images.find(ADA, WEB, "far")).payload == payload


async def test_the_first_push_may_be_a_manifest(registry: RegistryService) -> None:
    await registry.images.push(ADA, "acme/fresh", index_manifest([]), OCI_INDEX, tags=["empty"])
    assert await registry.images.tag_names(ADA, "acme/fresh", "", 10) == ["empty"]


async def test_a_refused_first_push_makes_no_repository(registry: RegistryService) -> None:
    with pytest.raises(ContentMissing):
        await registry.images.push(ADA, "acme/fresh", image_manifest(b"c", []), OCI_MANIFEST)
    with pytest.raises(RepositoryUnknown):
        await registry.images.tag_names(ADA, "acme/fresh", "", 10)


async def test_a_wrong_name_or_document_changes_nothing(registry: RegistryService) -> None:
    image = await push_image(registry, tag=None)
    with pytest.raises(DigestMismatch):
        await registry.images.push(ADA, WEB, image.payload, OCI_MANIFEST, digest=Digest.of(b"else"))
    with pytest.raises(TagInvalid):
        await registry.images.push(ADA, WEB, image.payload, OCI_MANIFEST, tags=["../x"])
    with pytest.raises(ManifestInvalid):
        await registry.images.push(ADA, WEB, b"{}", OCI_MANIFEST, tags=["latest"])
    assert await registry.images.tag_names(ADA, WEB, "", 10) == []


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_several_tags_come_with_one_push_by_digest(registry: RegistryService, algorithm: str) -> None:
    image = await push_image(registry, tag=None)
    digest = Digest.of(image.payload, algorithm)
    pushed = await registry.images.push(ADA, WEB, image.payload, OCI_MANIFEST, digest=digest, tags=["a", "b", "a"])
    assert pushed.tags == ("a", "b")
    assert (await registry.images.find(ADA, WEB, "b")).digest == digest


async def test_pushing_announces_images_and_moved_tags_once(registry: RegistryService, database: Database) -> None:
    first = await push_image(registry, "one", tag="latest")
    await registry.images.push(ADA, WEB, first.payload, OCI_MANIFEST, tags=["latest"])
    second = await push_image(registry, "two", tag="latest")
    third = await push_image(registry, "three", tag=None)
    pushed = {"tenant_id": "t-acme", "repository": WEB, "media_type": OCI_MANIFEST, "by": "ada"}
    assert await announced(database) == [
        ("image_pushed", pushed | {"digest": str(first.digest), "tag": "latest"}),
        ("image_pushed", pushed | {"digest": str(second.digest), "tag": "latest"}),
        (
            "tag_moved",
            {
                "tenant_id": "t-acme",
                "repository": WEB,
                "tag": "latest",
                "previous": str(first.digest),
                "digest": str(second.digest),
                "by": "ada",
            },
        ),
        ("image_pushed", pushed | {"digest": str(third.digest), "tag": None}),
    ]


async def test_a_deleted_tag_leaves_the_manifest(registry: RegistryService, database: Database) -> None:
    image = await push_image(registry, tag="1.4")
    await registry.images.delete_tag(ADA, WEB, "1.4")
    with pytest.raises(ManifestUnknown):
        await registry.images.find(ADA, WEB, "1.4")
    assert (await registry.images.find(ADA, WEB, image.digest)).payload == image.payload
    with pytest.raises(ManifestUnknown):
        await registry.images.delete_tag(ADA, WEB, "1.4")
    topic, payload = (await announced(database))[-1]
    assert (topic, payload["previous"], payload["digest"]) == ("tag_moved", str(image.digest), None)


async def test_a_deleted_manifest_takes_its_tags_along_at_once(registry: RegistryService, database: Database) -> None:
    image = await push_image(registry, tag="1.4")
    await registry.images.push(ADA, WEB, image.payload, OCI_MANIFEST, tags=["latest"])
    await registry.images.find(ADA, WEB, image.digest)  # so that it is remembered
    await registry.images.delete_manifest(ADA, WEB, image.digest)
    for reference in ("1.4", "latest", image.digest):
        with pytest.raises(ManifestUnknown):
            await registry.images.find(ADA, WEB, reference)
    with pytest.raises(ManifestUnknown):
        await registry.images.delete_manifest(ADA, WEB, image.digest)
    assert [topic for topic, _ in await announced(database)][-3:] == ["tag_moved", "tag_moved", "manifest_deleted"]
    await registry.images.push(ADA, WEB, image.payload, OCI_MANIFEST, tags=["again"])
    assert (await registry.images.find(ADA, WEB, "again")).digest == image.digest


async def test_what_another_replica_deleted_is_forgotten_soon(
    registry: RegistryService, database: Database, blobs: Any, clock: ManualClock
) -> None:
    other = RegistryService(database, blobs, registry.uploads._tenants, clock)
    image = await push_image(registry)
    await registry.images.find(ADA, WEB, image.digest)
    await other.images.delete_manifest(ADA, WEB, image.digest)
    clock.tick(5.1)
    with pytest.raises(ManifestUnknown):
        await registry.images.find(ADA, WEB, image.digest)


async def test_a_blob_that_a_manifest_needs_is_not_deleted(registry: RegistryService) -> None:
    image = await push_image(registry)
    layer = Digest.of(image.layers[0])
    with pytest.raises(BlobInUse):
        await registry.contents.unlink_blob(ADA, WEB, layer)
    await registry.images.delete_manifest(ADA, WEB, image.digest)
    await registry.contents.unlink_blob(ADA, WEB, layer)


@pytest.mark.parametrize(
    ("principal", "refusal"),
    [(ANONYMOUS, Unauthenticated), (VERA, Denied), (OTTO, Denied), (BOB, Denied)],
)
async def test_who_may_not_delete_does_not(
    registry: RegistryService, principal: Principal, refusal: type[Failure]
) -> None:
    image = await push_image(registry)
    for attempt in (
        registry.images.delete_tag(principal, WEB, "latest"),
        registry.images.delete_manifest(principal, WEB, image.digest),
        registry.contents.unlink_blob(principal, WEB, Digest.of(image.config)),
    ):
        with pytest.raises(refusal):
            await attempt
    assert await registry.images.find(ADA, WEB, "latest")


async def test_a_foreign_repository_reads_like_an_absent_one(registry: RegistryService) -> None:
    await push_image(registry)
    for repository in (WEB, "acme/absent", "absent/web"):
        with pytest.raises(RepositoryUnknown) as refused:
            await registry.images.find(BOB, repository, "latest")
        assert repository in str(refused.value)
        with pytest.raises(RepositoryUnknown):
            await registry.images.tag_names(BOB, repository, "", 10)


async def test_tags_come_in_byte_order_and_in_pages(registry: RegistryService) -> None:
    image = await push_image(registry, tag=None)
    names = ["0.1.2", "0.1.20", "0.1.3", "A", "Z", "_x", "a", "a-b", "a.b", "b"]
    await registry.images.push(ADA, WEB, image.payload, OCI_MANIFEST, digest=image.digest, tags=names)
    assert await registry.images.tag_names(VERA, WEB, "", 100) == names
    paged: list[str] = []
    while page := await registry.images.tag_names(VERA, WEB, paged[-1] if paged else "", 3):
        paged += page
    assert paged == names


async def test_concurrent_pushes_of_one_tag_leave_one_of_them(registry: RegistryService) -> None:
    images = [await push_image(registry, str(number), tag=None) for number in range(6)]
    await asyncio.gather(
        *(registry.images.push(ADA, WEB, image.payload, OCI_MANIFEST, tags=["race"]) for image in images)
    )
    assert (await registry.images.find(ADA, WEB, "race")).digest in {image.digest for image in images}


async def test_concurrent_first_pushes_make_one_repository(registry: RegistryService) -> None:
    await asyncio.gather(
        *(
            registry.images.push(ADA, "acme/new", index_manifest([], annotations={"n": str(number)}), OCI_INDEX)
            for number in range(6)
        )
    )
    assert await registry.catalogue(ADA, "", 10) == ["acme/new"]


async def test_a_push_that_races_a_deletion_leaves_no_broken_image(registry: RegistryService) -> None:
    for attempt in range(10):
        config = f"config {attempt}".encode()
        await push_blob(registry, config)
        payload = image_manifest(config, [])
        results = await asyncio.gather(
            registry.images.push(ADA, WEB, payload, OCI_MANIFEST),
            registry.contents.unlink_blob(ADA, WEB, Digest.of(config)),
            return_exceptions=True,
        )
        assert [type(result) for result in results if isinstance(result, Exception)] in ([ContentMissing], [BlobInUse])


async def test_an_index_knows_what_a_pull_of_all_its_images_moves(registry: RegistryService) -> None:
    _, images = await push_index(registry)
    [row] = (await registry.repositories(EVERYTHING, PageRequest())).items
    [tag] = row.tags
    assert tag.size_bytes == sum(len(each) for image in images.values() for each in (image.config, *image.layers))
