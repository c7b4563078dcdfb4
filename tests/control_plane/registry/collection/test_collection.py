"""What goes, when, and what stays."""

from __future__ import annotations

from datetime import timedelta

import pytest

from common.digest import Digest
from common.errors import Denied
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.registry.collection.model import RunKind
from control_plane.registry.failures import BlobUnknown, ContentMissing
from control_plane.registry.manifests import OCI_INDEX, OCI_MANIFEST
from control_plane.registry.upload_names import stored_id
from control_plane.web.paging import PageRequest
from tests.control_plane.registry.collection.stage import DAY, PACE, Stage
from tests.control_plane.registry.people import ADA, BOTH, ROOT, VERA, image_manifest, index_manifest
from tests.control_plane.registry.pushing import WEB, Image, chunks_of, push_blob, push_image

HOUR = timedelta(hours=1)
ALL = PageRequest(1, 100)


def blobs_of(image: Image) -> tuple[bytes, ...]:
    return (image.config, *image.layers)


async def test_a_blob_that_no_manifest_followed_goes_after_its_grace(stage: Stage) -> None:
    await push_blob(stage.registry, b"forgotten")
    stage.pass_time(DAY - HOUR)
    await stage.collect()
    assert await stage.registry.contents.blob_size(ADA, WEB, Digest.of(b"forgotten")) == 9
    stage.pass_time(HOUR)
    assert (await stage.collect()).unlinked == 1
    stage.pass_time(timedelta(seconds=10))
    with pytest.raises(BlobUnknown):
        await stage.registry.contents.blob_size(ADA, WEB, Digest.of(b"forgotten"))
    assert await stage.holds(b"forgotten")
    stage.pass_time(HOUR)
    tally = await stage.collect()
    assert (tally.deleted, tally.deleted_bytes) == (1, 9)
    assert not await stage.holds_any(b"forgotten")


async def test_what_a_manifest_refers_to_stays_for_ever(stage: Stage) -> None:
    image = await push_image(stage.registry)
    tally = await stage.collect_to_the_end()
    assert (tally.unlinked, tally.deleted) == (0, 0)
    assert await stage.holds(*blobs_of(image))
    # And costs nothing any more.
    assert await stage.collection.collect() is None


async def test_a_deleted_image_goes_with_all_that_only_it_needed(stage: Stage) -> None:
    gone, kept = await push_image(stage.registry, "gone", tag="1"), await push_image(stage.registry, "kept", tag="2")
    await push_blob(stage.registry, gone.layers[0])
    await stage.registry.images.push(
        ADA, WEB, image_manifest(kept.config, gone.layers[:1]), OCI_MANIFEST, tags=["shares"]
    )
    await stage.registry.images.delete_manifest(ADA, WEB, gone.digest)
    tally = await stage.collect_to_the_end()
    assert (tally.purged, tally.unlinked, tally.deleted) == (1, 2, 2)
    assert await stage.holds(*blobs_of(kept), gone.layers[0])
    assert not await stage.holds_any(gone.config, gone.layers[1])


async def test_another_repositorys_link_keeps_the_bytes(stage: Stage) -> None:
    image = await push_image(stage.registry)
    await push_image(stage.registry, repository="birch/copy", principal=BOTH)
    await stage.registry.images.delete_manifest(ADA, WEB, image.digest)
    tally = await stage.collect_to_the_end()
    assert (tally.unlinked, tally.deleted) == (3, 0)
    assert await stage.holds(*blobs_of(image))


async def test_a_blob_that_only_an_index_lists_stays(stage: Stage) -> None:
    await push_blob(stage.registry, b"not a manifest")
    other = {"mediaType": "application/x-thing", "digest": str(Digest.of(b"not a manifest")), "size": 14}
    payload = index_manifest([]).replace(
        b'"manifests":[]', b'"manifests":[' + str(other).replace("'", '"').encode() + b"]"
    )
    await stage.registry.images.push(ADA, WEB, payload, OCI_INDEX, tags=["odd"])
    await stage.collect_to_the_end()
    assert await stage.holds(b"not a manifest")


async def test_a_head_by_who_may_push_is_a_promise(stage: Stage) -> None:
    await push_blob(stage.registry, b"layer")
    await push_blob(stage.registry, b"config")
    stage.pass_time(DAY - HOUR)
    for data in (b"layer", b"config"):
        assert await stage.registry.contents.present_blob_size(ADA, WEB, Digest.of(data)) == len(data)
    stage.pass_time(DAY - HOUR)
    await stage.collect()
    await stage.registry.images.push(ADA, WEB, image_manifest(b"config", [b"layer"]), OCI_MANIFEST, tags=["1"])
    await stage.collect_to_the_end()
    assert await stage.holds(b"layer", b"config")


async def test_a_head_by_who_may_only_pull_promises_nothing(stage: Stage) -> None:
    await push_blob(stage.registry, b"layer")
    stage.pass_time(DAY - HOUR)
    await stage.registry.contents.present_blob_size(VERA, WEB, Digest.of(b"layer"))
    stage.pass_time(HOUR)
    assert (await stage.collect()).unlinked == 1


async def test_pushing_or_mounting_again_what_is_there_is_a_promise(stage: Stage) -> None:
    for data in (b"layer", b"config"):
        await push_blob(stage.registry, data)
        await push_blob(stage.registry, data, "acme/source")
    stage.pass_time(DAY - HOUR)
    await push_blob(stage.registry, b"layer")
    assert await stage.registry.uploads.mount(ADA, WEB, Digest.of(b"config"), "acme/source") is not None
    stage.pass_time(2 * HOUR)
    assert (await stage.collect()).unlinked == 2  # those of the source
    await stage.registry.images.push(ADA, WEB, image_manifest(b"config", [b"layer"]), OCI_MANIFEST)


async def test_a_promise_costs_no_write_while_it_is_young(stage: Stage) -> None:
    digest = await push_blob(stage.registry, b"layer")
    keeper = stage.registry.contents._hooks.keeper
    assert not await keeper.is_leaving(WEB, digest)
    stage.pass_time(DAY / 2 + HOUR)
    assert await keeper.is_leaving(WEB, digest)
    await stage.registry.contents.present_blob_size(ADA, WEB, digest)
    assert not await keeper.is_leaving(WEB, digest)


async def test_a_condemned_blob_that_is_pushed_again_is_spared(stage: Stage) -> None:
    await push_blob(stage.registry, b"data")
    stage.pass_time(DAY)
    await stage.collect()
    await stage.collect()  # condemned
    await push_blob(stage.registry, b"data", "acme/other")
    stage.pass_time(2 * HOUR)
    assert (await stage.collect()).deleted == 0
    assert await stage.holds(b"data")


async def test_bytes_that_nobody_recorded_are_found_and_go_after_a_grace(stage: Stage) -> None:
    await push_image(stage.registry)
    upload = stored_id((await stage.registry.uploads.start(ADA, WEB)).upload_id)
    await stage.blobs.append(upload, 0, chunks_of(b"published, never linked"))
    await stage.blobs.commit(upload, Digest.of(b"published, never linked"))
    run = await stage.collection.sweep()
    assert run.tally.adopted == 1
    stage.pass_time(DAY - HOUR)
    await stage.collect()
    assert await stage.holds(b"published, never linked")
    stage.pass_time(HOUR)
    assert (await stage.collect()).deleted == 1
    assert not await stage.holds_any(b"published, never linked")


async def test_bytes_found_without_a_record_can_still_be_pushed(stage: Stage) -> None:
    upload = stored_id((await stage.registry.uploads.start(ADA, WEB)).upload_id)
    await stage.blobs.append(upload, 0, chunks_of(b"late"))
    await stage.blobs.commit(upload, Digest.of(b"late"))
    await stage.collection.sweep()
    await push_blob(stage.registry, b"late")
    stage.pass_time(DAY - HOUR)
    await stage.collect()
    assert await stage.registry.contents.present_blob_size(ADA, WEB, Digest.of(b"late")) == 4


async def test_records_without_bytes_are_reported_until_they_are_mended(stage: Stage) -> None:
    image = await push_image(stage.registry)
    assert isinstance(stage.blobs, MemoryBlobStore)
    await stage.blobs.delete(Digest.of(image.config))
    stage.blobs.damage(Digest.of(image.layers[0]), b"short")
    await stage.collection.sweep()
    found = {each.digest: each.stored_size for each in (await stage.collection.missing(ROOT, ALL)).items}
    assert found == {Digest.of(image.config): None, Digest.of(image.layers[0]): 5}
    for data in blobs_of(image):
        await push_blob(stage.registry, data)
    await stage.collection.sweep()
    assert (await stage.collection.missing(ROOT, ALL)).total_count == 0


async def test_what_a_machine_is_told_to_hold_stays_though_its_image_is_gone(stage: Stage) -> None:
    image = await push_image(stage.registry)
    stage.machines.digests = {image.digest, Digest.of(image.layers[0])}
    await stage.registry.images.delete_manifest(ADA, WEB, image.digest)
    await stage.collect_to_the_end()
    assert await stage.holds(image.layers[0])
    content = await stage.registry.content(image.digest)
    assert b"".join([piece async for piece in content.read(0, content.size)]) == image.payload
    stage.machines.digests = set()
    await stage.collect_to_the_end()
    assert not await stage.holds_any(*blobs_of(image))
    with pytest.raises(BlobUnknown):
        await stage.registry.content(image.digest)


async def test_removing_a_tenants_repositories_leaves_nothing_behind(stage: Stage) -> None:
    image = await push_image(stage.registry)
    await stage.registry.images.delete_manifest(ADA, WEB, image.digest)
    async with stage.database.transaction() as unit:
        assert await stage.registry.tenant_in_use(unit, "t-acme") is None
    stage.pass_time(HOUR)
    await stage.collect()
    stage.pass_time(2 * HOUR)
    assert (await stage.collect()).deleted == 3
    assert not await stage.holds_any(*blobs_of(image))


async def test_a_preview_names_what_goes_and_why_and_changes_nothing(stage: Stage) -> None:
    image = await push_image(stage.registry)
    await push_blob(stage.registry, b"forgotten")
    await stage.registry.images.delete_manifest(ADA, WEB, image.digest)
    assert (await stage.collection.preview()).links == 0
    found = await stage.collection.preview(within=DAY)
    assert (found.purges, found.links, found.blobs) == (1, 4, 0)
    assert found.links_bytes == sum(map(len, (*blobs_of(image), b"forgotten")))
    reasons = {each.digest: (each.verdict, each.repository, each.reason) for each in found.candidates}
    assert reasons[Digest.of(b"forgotten")] == ("unlink", WEB, "pushed")
    assert reasons[Digest.of(image.config)] == ("unlink", WEB, "manifest_deleted")
    assert len((await stage.collection.preview(within=DAY, limit=1)).candidates) == 1
    stage.pass_time(DAY)
    assert await stage.collection.preview() == await stage.collection.preview()
    tally = await stage.collect()
    assert (tally.purged, tally.unlinked) == (1, 4)
    stage.pass_time(timedelta(minutes=1))
    found = await stage.collection.preview(within=2 * HOUR)
    assert (found.blobs, found.blobs_bytes) == (4, sum(map(len, (*blobs_of(image), b"forgotten"))))


async def test_runs_and_removals_are_remembered_for_their_time(stage: Stage) -> None:
    digest = await push_blob(stage.registry, b"forgotten")
    await stage.collect_to_the_end()
    runs = (await stage.collection.runs(ROOT, ALL)).items
    assert sum(run.tally.deleted for run in runs) == 1
    assert all(run.kind is RunKind.REVIEW and run.finished_at is not None for run in runs)
    (removal,) = (await stage.collection.removals(ROOT, digest, ALL)).items
    assert (removal.digest, removal.size, removal.reason) == (digest, 9, "unlinked")
    assert removal.run_id in {run.run_id for run in runs}
    stage.pass_time(PACE.records + DAY)
    await stage.collection.forget_old()
    assert (await stage.collection.runs(ROOT, ALL)).total_count == 0
    assert (await stage.collection.removals(ROOT, None, ALL)).total_count == 0


async def test_only_the_platforms_administrators_look_into_it(stage: Stage) -> None:
    for asked in (
        stage.collection.runs(ADA, ALL),
        stage.collection.missing(ADA, ALL),
        stage.collection.removals(ADA, None, ALL),
        stage.collection.preview_for(ADA, DAY, 1),
        stage.collection.start(ADA, RunKind.REVIEW),
    ):
        with pytest.raises(Denied):
            await asked


async def test_a_manifest_that_comes_after_the_end_of_a_promise_is_refused_whole(stage: Stage) -> None:
    await push_blob(stage.registry, b"layer")
    await push_blob(stage.registry, b"config")
    stage.pass_time(DAY)
    await stage.collect()
    with pytest.raises(ContentMissing):
        await stage.registry.images.push(ADA, WEB, image_manifest(b"config", [b"layer"]), OCI_MANIFEST, tags=["1"])
