"""Deleting, and thinking better of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from common.clock import ManualClock
from common.digest import Digest
from common.errors import Denied, QuotaExceeded
from control_plane.database import Database, UnitOfWork
from control_plane.registry.failures import ContentMissing, ManifestUnknown, RepositoryUnknown
from control_plane.registry.manifests import OCI_MANIFEST, ParsedManifest
from control_plane.registry.model import Manifest, Repository
from control_plane.registry.participants import Participant
from control_plane.tenants.access import Principal
from control_plane.web.paging import PageRequest
from tests.control_plane.registry.collection.stage import DAY, Stage, set_stage
from tests.control_plane.registry.people import ADA, BOB, OTTO, image_manifest
from tests.control_plane.registry.pushing import WEB, push_blob, push_image, push_index

HOUR = timedelta(hours=1)
ALL = PageRequest(1, 100)


async def test_a_deleted_image_is_gone_at_once_and_comes_back_with_its_tags(stage: Stage) -> None:
    image = await push_image(stage.registry, tag="1.0")
    await stage.registry.images.push(ADA, WEB, image.payload, OCI_MANIFEST, tags=["stable"])
    await stage.registry.images.delete_manifest(ADA, WEB, image.digest)
    for reference in ("1.0", "stable", image.digest):
        with pytest.raises(ManifestUnknown):
            await stage.registry.images.find(ADA, WEB, reference)
    stage.pass_time(DAY - HOUR)
    await stage.collect()
    restored = await stage.trash.undelete(ADA, WEB, str(image.digest))
    assert (restored.manifests, restored.tags, restored.skipped) == ((image.digest,), ("1.0", "stable"), ())
    await stage.collect_to_the_end()
    for reference in ("1.0", "stable", image.digest):
        assert (await stage.registry.images.find(ADA, WEB, reference)).payload == image.payload
    assert await stage.holds(image.config, *image.layers)


async def test_the_trash_says_what_who_when_and_until_when(stage: Stage) -> None:
    image = await push_image(stage.registry, tag="1.0")
    deleted_at = stage.clock.now()
    await stage.registry.images.delete_manifest(ADA, WEB, image.digest)
    (kept,) = (await stage.trash.contents(ADA, WEB, ALL)).items
    assert (kept.digest, kept.tags, kept.deleted_by) == (image.digest, ("1.0",), "ada")
    assert (kept.deleted_at, kept.purge_after) == (deleted_at, deleted_at + DAY)
    assert kept.size_bytes == sum(map(len, (image.payload, image.config, *image.layers)))


async def test_a_deleted_tag_comes_back_by_its_name(stage: Stage) -> None:
    image = await push_image(stage.registry, tag="1.0")
    await stage.registry.images.delete_tag(ADA, WEB, "1.0")
    restored = await stage.trash.undelete(ADA, WEB, "1.0")
    assert (restored.manifests, restored.tags) == ((), ("1.0",))
    assert (await stage.registry.images.find(ADA, WEB, "1.0")).digest == image.digest


async def test_a_tag_brings_its_manifest_back(stage: Stage) -> None:
    image = await push_image(stage.registry, tag="1.0")
    await stage.registry.images.delete_manifest(ADA, WEB, image.digest)
    assert (await stage.trash.undelete(ADA, WEB, "1.0")).manifests == (image.digest,)
    assert (await stage.registry.images.find(ADA, WEB, "1.0")).digest == image.digest
    assert (await stage.trash.contents(ADA, WEB, ALL)).total_count == 0


async def test_a_tag_that_means_something_else_by_now_is_left_alone(stage: Stage) -> None:
    old = await push_image(stage.registry, "old", tag="1.0")
    await stage.registry.images.delete_manifest(ADA, WEB, old.digest)
    new = await push_image(stage.registry, "new", tag="1.0")
    restored = await stage.trash.undelete(ADA, WEB, str(old.digest))
    assert (restored.tags, restored.skipped) == ((), ("1.0",))
    assert (await stage.registry.images.find(ADA, WEB, "1.0")).digest == new.digest
    assert (await stage.registry.images.find(ADA, WEB, old.digest)).payload == old.payload


async def test_an_index_comes_back_with_its_images(stage: Stage) -> None:
    payload, images = await push_index(stage.registry)
    index = Digest.of(payload)
    await stage.registry.images.delete_manifest(ADA, WEB, index)
    for image in images.values():
        await stage.registry.images.delete_manifest(ADA, WEB, image.digest)
    restored = await stage.trash.undelete(ADA, WEB, "multi")
    assert restored.manifests[0] == index
    assert set(restored.manifests) == {index, *(image.digest for image in images.values())}
    await stage.collect_to_the_end()
    for image in images.values():
        assert (await stage.registry.images.find(ADA, WEB, image.digest)).payload == image.payload
        assert await stage.holds(image.config, *image.layers)


async def test_what_comes_back_is_as_old_as_it_was(stage: Stage) -> None:
    image = await push_image(stage.registry, principal=OTTO)
    stage.pass_time(10 * DAY)
    await stage.registry.images.delete_manifest(ADA, WEB, image.digest)
    await stage.trash.undelete(ADA, WEB, str(image.digest))
    async with stage.database.reading() as connection:
        row = (await connection.exec_driver_sql("SELECT pushed_by, pushed_at FROM manifests")).one()
    assert row.pushed_by == "u-otto"
    assert str(row.pushed_at)[:10] == "2026-01-01"


async def test_after_the_grace_nothing_comes_back(stage: Stage) -> None:
    image = await push_image(stage.registry)
    await stage.registry.images.delete_manifest(ADA, WEB, image.digest)
    stage.pass_time(DAY)
    await stage.collect()
    for reference in (str(image.digest), "latest"):
        with pytest.raises(ManifestUnknown):
            await stage.trash.undelete(ADA, WEB, reference)


async def test_pushing_it_again_takes_it_out_of_the_trash(stage: Stage) -> None:
    image = await push_image(stage.registry)
    await stage.registry.images.delete_manifest(ADA, WEB, image.digest)
    await push_image(stage.registry)
    assert (await stage.trash.contents(ADA, WEB, ALL)).total_count == 0
    await stage.collect_to_the_end()
    assert await stage.holds(image.config, *image.layers)


async def test_blobs_that_were_deleted_by_hand_come_back_with_the_image(stage: Stage) -> None:
    image = await push_image(stage.registry)
    await stage.registry.images.delete_manifest(ADA, WEB, image.digest)
    for data in (image.config, *image.layers):
        await stage.registry.contents.unlink_blob(ADA, WEB, Digest.of(data))
    stage.pass_time(DAY - HOUR)
    await stage.collect()
    await stage.trash.undelete(ADA, WEB, "latest")
    for data in (image.config, *image.layers):
        assert await stage.registry.contents.present_blob_size(ADA, WEB, Digest.of(data)) == len(data)


async def test_emptying_the_trash_frees_what_only_it_needed_within_the_hour(stage: Stage) -> None:
    image, other = await push_image(stage.registry, "a", tag="1"), await push_image(stage.registry, "b", tag="2")
    stage.pass_time(2 * DAY)  # until then those who pushed were promised to find it
    for each in (image, other):
        await stage.registry.images.delete_manifest(ADA, WEB, each.digest)
    assert await stage.trash.purge(ADA, WEB, image.digest) == 1
    with pytest.raises(ManifestUnknown):
        await stage.trash.purge(ADA, WEB, image.digest)
    stage.pass_time(HOUR)
    assert (await stage.collect()).unlinked == 3
    assert [each.digest for each in (await stage.trash.contents(ADA, WEB, ALL)).items] == [other.digest]
    assert await stage.trash.purge(ADA, WEB) == 1
    assert (await stage.trash.contents(ADA, WEB, ALL)).total_count == 0


async def test_emptying_the_trash_breaks_no_promise(stage: Stage) -> None:
    image = await push_image(stage.registry)
    stage.pass_time(3 * DAY)
    await stage.collect()
    await stage.registry.images.delete_manifest(ADA, WEB, image.digest)
    stage.pass_time(DAY - HOUR)
    for data in (image.config, *image.layers):
        await stage.registry.contents.present_blob_size(ADA, WEB, Digest.of(data))
    await stage.trash.purge(ADA, WEB)
    stage.pass_time(DAY - HOUR)
    await stage.collect()
    await stage.registry.images.push(ADA, WEB, image.payload, OCI_MANIFEST, tags=["again"])


async def test_only_who_may_delete_sees_and_changes_the_trash(stage: Stage) -> None:
    image = await push_image(stage.registry)
    await stage.registry.images.delete_manifest(ADA, WEB, image.digest)
    for asked in (
        stage.trash.contents(OTTO, WEB, ALL),
        stage.trash.undelete(OTTO, WEB, "latest"),
        stage.trash.purge(OTTO, WEB),
        stage.trash.undelete(BOB, WEB, "latest"),
    ):
        with pytest.raises(Denied):
            await asked
    with pytest.raises(RepositoryUnknown):
        await stage.trash.undelete(ADA, "acme/none", "latest")


class Quota(Participant):
    """Full when it is told so."""

    full = False

    async def manifest_added(
        self,
        unit: UnitOfWork,
        repository: Repository,
        manifest: Manifest,
        parsed: ParsedManifest,
        by: Principal | None,
    ) -> None:
        if self.full:
            raise QuotaExceeded("there is no room", action="delete something")


async def test_who_takes_part_in_a_push_may_refuse_what_comes_back(database: Database, clock: ManualClock) -> None:
    quota = Quota()
    stage = set_stage(database, clock, others=[quota])
    image = await push_image(stage.registry, tag="1")
    await stage.registry.images.delete_manifest(ADA, WEB, image.digest)
    quota.full = True
    with pytest.raises(QuotaExceeded):
        await stage.trash.undelete(ADA, WEB, "1")
    assert (await stage.trash.contents(ADA, WEB, ALL)).total_count == 1
    quota.full = False
    assert (await stage.trash.undelete(ADA, WEB, "1")).manifests == (image.digest,)


async def test_a_blob_that_was_collected_since_is_named(stage: Stage) -> None:
    image = await push_image(stage.registry)
    await stage.registry.images.delete_manifest(ADA, WEB, image.digest)
    lost = Digest.of(image.config)
    await stage.registry.contents.unlink_blob(ADA, WEB, lost)
    async with stage.database.transaction() as unit:
        await unit.connection.exec_driver_sql(f"DELETE FROM blobs WHERE digest = '{lost}'")
    with pytest.raises(ContentMissing) as caught:
        await stage.trash.undelete(ADA, WEB, str(image.digest))
    assert caught.value.blobs == (lost,)


async def test_a_shared_blob_survives_the_purge_of_one_of_its_images(stage: Stage) -> None:
    image = await push_image(stage.registry, tag="1")
    await stage.registry.images.push(
        ADA, WEB, image_manifest(image.config, image.layers[:1]), OCI_MANIFEST, tags=["slim"]
    )
    await stage.registry.images.delete_manifest(ADA, WEB, image.digest)
    await push_blob(stage.registry, image.layers[0])
    await stage.collect_to_the_end()
    assert await stage.holds(image.config, image.layers[0])
    assert not await stage.holds_any(image.layers[1])
