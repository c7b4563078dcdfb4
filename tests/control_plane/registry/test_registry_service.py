"""What other domains ask of the registry, on both database engines."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from common.clock import ManualClock
from common.digest import Digest
from common.errors import NotFound
from common.reference import Reference
from control_plane.blobs import BlobDamaged
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database
from control_plane.registry.failures import BlobUnknown, ManifestUnknown, RepositoryUnknown
from control_plane.registry.grants import EVERYTHING, Visible
from control_plane.registry.manifests import OCI_INDEX, OCI_MANIFEST
from control_plane.registry.model import OCTETS
from control_plane.registry.scopes import CATALOG
from control_plane.registry.service import RegistryService
from control_plane.tenants.access import ANONYMOUS, RepositoryScope
from control_plane.web.paging import PageRequest
from tests.control_plane.registry.people import ADA, BOB, BOTH, ROOT, Directory, index_manifest
from tests.control_plane.registry.pushing import WEB, Image, push_blob, push_image, push_index


def contents_of(image: Image) -> list[Digest]:
    return [Digest.of(each) for each in (image.config, *image.layers)]


async def test_a_reference_resolves_to_config_and_layers_in_order(registry: RegistryService) -> None:
    image = await push_image(registry, tag="1.4")
    for text, tag in (
        ("acme/web:1.4", "1.4"),
        (f"acme/web@{image.digest}", None),
        (f"acme/web:x@{image.digest}", None),
    ):
        found = await registry.resolve(Reference.parse(text))
        assert (found.repository, found.tenant_id, found.tag) == (WEB, "t-acme", tag)
        assert (found.manifest.digest, found.manifest.size) == (image.digest, len(image.payload))
        assert found.manifest.media_type == OCI_MANIFEST
        assert [each.digest for each in found.contents] == contents_of(image)


async def test_an_index_resolves_to_the_platforms_image(registry: RegistryService) -> None:
    _, images = await push_index(registry)
    for architecture, image in images.items():
        found = await registry.resolve(Reference.parse("acme/web:multi"), architecture)
        assert found.manifest.digest == image.digest
        assert found.tag == "multi"
        assert [each.digest for each in found.contents] == contents_of(image)
    with pytest.raises(ManifestUnknown) as refused:
        await registry.resolve(Reference.parse("acme/web:multi"), "riscv64")
    assert "linux/riscv64" in str(refused.value)


async def test_what_is_not_there_does_not_resolve(registry: RegistryService) -> None:
    await push_image(registry)
    with pytest.raises(RepositoryUnknown):
        await registry.resolve(Reference.parse("acme/absent:1"))
    with pytest.raises(ManifestUnknown):
        await registry.resolve(Reference.parse("acme/web:absent"))
    with pytest.raises(ManifestUnknown):
        await registry.resolve(Reference.parse(f"acme/web@{Digest.of(b'absent')}"))


async def test_contents_are_read_by_digest_blobs_and_manifests_alike(registry: RegistryService) -> None:
    image = await push_image(registry)
    for data, media_type in ((image.layers[0], OCTETS), (image.payload, OCI_MANIFEST)):
        content = await registry.content(Digest.of(data))
        assert (content.size, content.media_type, content.path) == (len(data), media_type, None)
        assert b"".join([piece async for piece in content.read(0, len(data))]) == data
        assert b"".join([piece async for piece in content.read(2, 5)]) == data[2:5]
    with pytest.raises(BlobUnknown):
        await registry.content(Digest.of(b"absent"))


async def test_a_damaged_content_is_said_to_be_damaged_until_it_is_pushed_again(
    registry: RegistryService, blobs: MemoryBlobStore
) -> None:
    digest = await push_blob(registry, b"precious")
    blobs.damage(digest, b"prec")
    with pytest.raises(BlobDamaged):
        await registry.content(digest)
    with pytest.raises(NotFound):
        await registry.content(digest)
    await push_blob(registry, b"precious")
    assert (await registry.content(digest)).size == 8


async def test_repositories_are_listed_with_their_tags_and_sizes(registry: RegistryService) -> None:
    one = await push_image(registry, "one", tag="1")
    two = await push_image(registry, "two", tag="2")
    await push_image(registry, "three", tag="3", repository="birch/api", principal=BOB)
    await push_blob(registry, b"only a blob", "acme/blobs")
    page = await registry.repositories(await registry.rights.visible(ADA), PageRequest())
    assert (page.total_count, [row.repository for row in page.items]) == (2, ["acme/blobs", "acme/web"])
    blobs_only, web = page.items
    assert (blobs_only.tags, blobs_only.size_bytes) == ((), 11)
    assert [(tag.name, tag.digest, tag.media_type) for tag in web.tags] == [
        ("1", one.digest, OCI_MANIFEST),
        ("2", two.digest, OCI_MANIFEST),
    ]
    sizes = [sum(map(len, (image.config, *image.layers))) for image in (one, two)]
    assert [tag.size_bytes for tag in web.tags] == sizes
    assert web.size_bytes == sum(sizes)
    assert (await registry.repositories(EVERYTHING, PageRequest())).total_count == 3
    assert (await registry.repositories(Visible(), PageRequest())).total_count == 0
    second = await registry.repositories(EVERYTHING, PageRequest(2, 2))
    assert [row.repository for row in second.items] == ["birch/api"]


async def test_the_catalogue_shows_what_the_principal_may_pull(registry: RegistryService) -> None:
    for repository, principal in (("acme/a", ADA), ("acme/ab", ADA), ("birch/c", BOB)):
        await push_blob(registry, b"x", repository, principal)
    assert await registry.catalogue(ADA, "", 10) == ["acme/a", "acme/ab"]
    assert await registry.catalogue(BOB, "", 10) == ["birch/c"]
    assert await registry.catalogue(ROOT, "", 10) == ["acme/a", "acme/ab", "birch/c"]
    assert await registry.catalogue(BOTH, "acme/a", 1) == ["acme/ab"]
    assert await registry.catalogue(ANONYMOUS, "", 10) == []
    confined = replace(BOTH, scopes=(RepositoryScope("birch/c", frozenset({"pull"})),))
    assert await registry.catalogue(confined, "", 10) == ["birch/c"]
    assert await registry.catalogue(replace(ADA, scopes=(CATALOG,)), "", 10) == ["acme/a", "acme/ab"]


async def test_nested_indexes_without_a_match_end(registry: RegistryService) -> None:
    payload, _ = await push_index(registry)
    outer = index_manifest([(payload, "amd64")]).replace(OCI_MANIFEST.encode(), OCI_INDEX.encode())
    await registry.images.push(ADA, WEB, outer, OCI_INDEX, tags=["outer"])
    found = await registry.resolve(Reference.parse("acme/web:outer"))
    assert len(found.contents) == 3
    with pytest.raises(ManifestUnknown):
        await registry.resolve(Reference.parse("acme/web:outer"), "arm64")


async def test_a_tenant_is_in_use_while_it_has_images(registry: RegistryService, database: Database) -> None:
    image = await push_image(registry)
    async with database.transaction() as unit:
        assert await registry.tenant_in_use(unit, "t-acme") == "1 repository with images"
        assert await registry.tenant_in_use(unit, "t-birch") is None
    await registry.images.delete_manifest(ADA, WEB, image.digest)
    async with database.transaction() as unit:
        assert await registry.tenant_in_use(unit, "t-acme") is None
    assert await registry.catalogue(ROOT, "", 10) == []


async def test_a_new_tenant_of_an_old_name_inherits_nothing(
    registry: RegistryService, database: Database, blobs: MemoryBlobStore, clock: ManualClock
) -> None:
    await push_image(registry)

    class Renewed(Directory):
        async def ids_of(self, names: Collection[str]) -> Mapping[str, str]:
            return dict.fromkeys(names, "t-renewed")

    renewed = RegistryService(database, blobs, Renewed(), clock)
    await push_blob(renewed, b"fresh")
    assert await renewed.images.tag_names(ADA, WEB, "", 10) == []


async def test_whose_a_content_is_says_every_tenant_that_holds_it(registry: RegistryService) -> None:
    image = await push_image(registry)
    await push_image(registry, repository="birch/api", principal=BOB)
    await push_blob(registry, b"hers alone", "acme/blobs")
    layer, payload, hers, absent = map(Digest.of, (image.layers[0], image.payload, b"hers alone", b"absent"))
    found = await registry.contents.owners([layer, payload, hers, absent])
    assert {tenant for tenant, digest in found if digest == layer} == {"t-acme", "t-birch"}
    assert ("t-acme", payload) in found
    assert {pair for pair in found if pair[1] in (hers, absent)} == {("t-acme", hers)}
