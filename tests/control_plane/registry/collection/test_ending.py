"""Being done with a repository: its images go together, and what holds nothing ends."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from common.clock import ManualClock
from common.digest import Digest
from common.errors import Denied
from control_plane.audit.service import AuditTrail
from control_plane.database import Database
from control_plane.registry import grant_store, repository_store
from control_plane.registry.emptying import Emptying
from control_plane.registry.failures import ManifestUnknown, RepositoryUnknown
from control_plane.registry.grants import GranteeKind, GrantRecord, Level, Visibility
from control_plane.registry.manifests import OCI_INDEX
from control_plane.registry.model import Repository
from control_plane.registry.quota.model import Limits
from control_plane.registry.retention.immutability import Immutability, ImmutabilityRules
from control_plane.registry.retention.model import TagSelector
from tests.control_plane.registry.collection.stage import DAY, Stage, set_stage
from tests.control_plane.registry.people import ADA, BOB, OTTO, VERA, Directory, index_manifest
from tests.control_plane.registry.pushing import WEB, push_blob, push_image, push_index
from tests.control_plane.registry.quota.quotas import open_ward


def emptying(stage: Stage) -> Emptying:
    return Emptying(
        stage.database, stage.registry.images, stage.registry.rights, AuditTrail(stage.database, stage.clock)
    )


async def found(stage: Stage, name: str = WEB) -> Repository | None:
    async with stage.database.reading() as connection:
        return await repository_store.find_repository(connection, name)


async def make_public(stage: Stage) -> None:
    held = await found(stage)
    assert held is not None
    async with stage.database.transaction() as unit:
        await grant_store.set_visibility(unit.connection, held.repository_id, Visibility.PUBLIC)


async def test_all_images_go_to_the_trash_and_the_repository_after_them(stage: Stage) -> None:
    images = [await push_image(stage.registry, str(n), tag=str(n)) for n in range(45)]
    await push_index(stage.registry)
    await push_image(stage.registry, "other", repository="acme/other")
    await make_public(stage)
    done = await emptying(stage).empty(ADA, WEB)
    assert (done.removed, done.kept, done.finished) == (48, (), True)
    assert await stage.registry.images.tag_names(ADA, WEB, "", 10) == []
    assert not await stage.registry.contents.public(WEB)
    assert (await stage.trash.undelete(ADA, WEB, "7")).tags == ("7",)
    assert (await stage.registry.images.find(ADA, WEB, "7")).payload == images[7].payload
    await stage.collect_to_the_end()
    assert await stage.collection.end_repositories() == 0, "an image was taken back"
    await stage.registry.images.delete_manifest(ADA, WEB, images[7].digest)
    await stage.collect_to_the_end()
    assert await found(stage) is not None
    assert await stage.collection.end_repositories() == 1
    assert await found(stage) is None
    assert await found(stage, "acme/other") is not None
    with pytest.raises(RepositoryUnknown):
        await stage.registry.images.tag_names(ADA, WEB, "", 10)
    await push_image(stage.registry, tag="anew")
    assert await stage.registry.images.tag_names(ADA, WEB, "", 10) == ["anew"]


async def test_what_may_not_go_stays_and_is_named(database: Database, clock: ManualClock) -> None:
    stage = set_stage(database, clock, others=[Immutability()])
    await ImmutabilityRules(database, Directory("acme"), clock).add(ADA, "acme", ["**"], TagSelector(("v*",)))
    for tag in ("v1", "latest", "v2", "next"):
        await push_image(stage.registry, tag, tag=tag)
    await make_public(stage)
    done = await emptying(stage).empty(ADA, WEB)
    assert (done.removed, len(done.kept), done.finished) == (2, 2, True)
    assert all("is immutable by the rule" in kept.reason for kept in done.kept)
    assert await stage.registry.images.tag_names(ADA, WEB, "", 10) == ["v1", "v2"]
    assert await stage.registry.contents.public(WEB), "it is still used"


async def test_who_does_not_manage_it_empties_nothing(stage: Stage) -> None:
    image = await push_image(stage.registry)
    for who, refused in ((OTTO, Denied), (VERA, Denied), (BOB, RepositoryUnknown)):
        with pytest.raises(refused):
            await emptying(stage).empty(who, WEB)
    assert (await stage.registry.images.find(ADA, WEB, "latest")).digest == image.digest
    with pytest.raises(RepositoryUnknown):
        await emptying(stage).empty(ADA, "acme/nothing")


async def test_what_takes_too_long_goes_on_with_the_next_request(stage: Stage) -> None:
    for n in range(25):
        await push_image(stage.registry, str(n), tag=None)
    first = await emptying(stage).empty(ADA, WEB, seconds=0)
    assert (first.removed, first.finished) == (20, False)
    second = await emptying(stage).empty(ADA, WEB)
    assert (second.removed, second.finished) == (5, True)


@pytest.mark.parametrize("why", ["public", "granted", "new", "blob", "trash", "manifest"])
async def test_a_repository_that_means_something_stays(stage: Stage, why: str) -> None:
    empty_index = index_manifest([])
    digest = Digest.of(empty_index)
    await stage.registry.images.push(ADA, WEB, empty_index, OCI_INDEX, tags=[])
    if why != "manifest":
        await stage.registry.images.delete_manifest(ADA, WEB, digest)
    if why not in ("trash", "manifest"):
        await stage.trash.purge(ADA, WEB)
    if why == "public":
        await make_public(stage)
    if why == "granted":
        from_web = await found(stage)
        assert from_web is not None
        async with stage.database.transaction() as unit:
            record = GrantRecord(GranteeKind.USER, "u-vera", "vera", Level.READ, None, "ada", stage.clock.now())
            await grant_store.put_grant(unit.connection, from_web.repository_id, record)
    if why != "new":
        stage.pass_time(2 * DAY)
    if why == "blob":
        await push_blob(stage.registry, b"on its way")
    assert await stage.collection.end_repositories() == 0
    assert await found(stage) is not None
    if why == "new":
        stage.pass_time(DAY + timedelta(seconds=1))
        assert await stage.collection.end_repositories() == 1


async def test_a_push_wins_against_the_end(stage: Stage) -> None:
    for _ in range(5):
        empty_index = index_manifest([])
        await stage.registry.images.push(ADA, WEB, empty_index, OCI_INDEX)
        await stage.registry.images.delete_manifest(ADA, WEB, Digest.of(empty_index))
        await stage.trash.purge(ADA, WEB)
        stage.pass_time(2 * DAY)
        pushed, _ = await asyncio.gather(push_image(stage.registry), stage.collection.end_repositories())
        assert (await stage.registry.images.find(ADA, WEB, "latest")).payload == pushed.payload
        await stage.registry.images.delete_manifest(ADA, WEB, pushed.digest)
        await stage.trash.purge(ADA, WEB)
        for digest in (pushed.config, *pushed.layers):
            await stage.registry.contents.unlink_blob(ADA, WEB, Digest.of(digest))
        with pytest.raises(ManifestUnknown):
            await stage.registry.images.find(ADA, WEB, "latest")


async def test_its_image_is_given_back_to_the_quota(database: Database, clock: ManualClock) -> None:
    """An image is a repository: whoever is at the limit gets room by being done with one."""
    ward = open_ward(database, set_stage(database, clock).blobs, clock)
    stage = set_stage(database, clock, others=[ward.quota.book])
    await ward.limit(Limits(images=1))
    await push_image(stage.registry)
    await emptying(stage).empty(ADA, WEB)
    assert (await ward.account()).images == 1
    await stage.collect_to_the_end()
    assert await stage.collection.end_repositories() == 1
    assert ((await ward.account()).images, (await ward.account()).used_bytes) == (0, 0)
    await ward.check_exact()
    await push_image(stage.registry, repository="acme/another")
