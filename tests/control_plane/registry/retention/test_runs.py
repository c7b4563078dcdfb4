"""Policies carried out on a real registry: what goes, what stops a run, and what survives one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from common.digest import Digest
from common.errors import Denied, NotFound, Unavailable
from control_plane.registry.failures import ManifestUnknown
from control_plane.registry.manifests import OCI_MANIFEST
from control_plane.registry.retention import images_store
from control_plane.registry.retention.failures import (
    PolicyInvalid,
    PolicyNameTaken,
    PolicyUnknown,
    RunEnded,
    RunUnknown,
)
from control_plane.registry.retention.model import Keep, KeepRule, RetentionPolicy, Run, RunState, TagSelector
from control_plane.tenants.access import Principal
from control_plane.web.paging import PageRequest
from tests.control_plane.registry.people import ADA, BOB, OTTO, VERA, descriptor, image_manifest
from tests.control_plane.registry.pushing import WEB, Image, push_blob, push_image, push_index
from tests.control_plane.registry.retention.conftest import World

DAY = 86_400
DRAFT = RetentionPolicy("", "", "tidy", ("**",), (KeepRule(Keep.NEWEST, count=2),))
ALL = PageRequest(1, 200)


async def push_daily(world: World, *names: str, repository: str = WEB) -> dict[str, Image]:
    """One a day, oldest first; the name is the tag."""
    pushed = {}
    for name in names:
        pushed[name] = await push_image(world.registry, name, tag=name, repository=repository)
        world.clock.tick(DAY)
    return pushed


async def run(world: World, policy: RetentionPolicy, principal: Principal = ADA) -> Run:
    await world.retention.service.start(principal, "acme", policy.policy_id)
    await world.worker.run_waiting()
    world.clock.tick(1)
    found = await world.retention.service.runs(ADA, "acme", policy.policy_id, ALL)
    return found.items[0]


async def tags(world: World, repository: str = WEB) -> list[str]:
    return await world.registry.images.tag_names(ADA, repository, "", 100)


async def test_a_run_deletes_what_the_preview_said(world: World) -> None:
    await push_daily(world, "a", "b", "c", "d")
    policy = await world.retention.service.add(ADA, "acme", DRAFT)
    preview = await world.retention.service.preview(VERA, "acme", policy.policy_id, None, ALL)
    assert [each.decision.image.tags for each in preview.items if each.decision.deleted] == [("b",), ("a",)]
    assert await tags(world) == ["a", "b", "c", "d"]
    ended = await run(world, policy)
    assert await tags(world) == ["c", "d"]
    assert (ended.state, ended.repositories, ended.examined, ended.kept, ended.deleted, ended.skipped) == (
        RunState.DONE,
        1,
        4,
        2,
        2,
        0,
    )
    assert ended.ended_at is not None
    assert (await run(world, policy)).deleted == 0


async def test_a_draft_is_previewed_and_stored_nowhere(world: World) -> None:
    await push_daily(world, "a", "b", "c")
    shown = await world.retention.service.preview(ADA, "acme", DRAFT, WEB, PageRequest(1, 1))
    assert (shown.total_count, len(shown.items), shown.items[0].decision.deleted) == (3, 1, True)
    assert await world.retention.service.policies(ADA, "acme") == []
    with pytest.raises(NotFound):
        await world.retention.service.preview(ADA, "acme", DRAFT, "birch/web", ALL)
    with pytest.raises(PolicyInvalid):
        await world.retention.service.preview(ADA, "acme", replace(DRAFT, rules=()), None, ALL)


async def test_only_repositories_of_the_policy_and_the_tenant_are_touched(world: World) -> None:
    for name in ("a", "b"):
        await push_image(world.registry, name, tag=name, repository="acme/api")
        await push_image(world.registry, name, tag=name, repository="birch/web", principal=BOB)
        await push_image(world.registry, name, tag=name)
        world.clock.tick(DAY)
    rules = (KeepRule(Keep.NEWEST, count=1),)
    policy = await world.retention.service.add(ADA, "acme", replace(DRAFT, repositories=("web",), rules=rules))
    await run(world, policy)
    assert await tags(world) == ["b"]
    assert await tags(world, "acme/api") == ["a", "b"]
    assert await world.registry.images.tag_names(BOB, "birch/web", "", 9) == ["a", "b"]


async def test_indexes_go_with_their_images_and_attachments(world: World) -> None:
    payload, images = await push_index(world.registry, "old")
    subject = descriptor(payload, "application/vnd.oci.image.index.v1+json")
    config = await push_blob(world.registry, b"{}")
    sbom = image_manifest(b"{}", [], subject=subject, artifactType="application/spdx+json")
    await world.registry.images.push(ADA, WEB, sbom, OCI_MANIFEST, digest=Digest.of(sbom))
    world.clock.tick(DAY)
    await push_daily(world, "new")
    policy = await world.retention.service.add(ADA, "acme", replace(DRAFT, rules=(KeepRule(Keep.NEWEST, count=1),)))
    ended = await run(world, policy)
    assert (ended.deleted, ended.kept) == (4, 1)
    for digest in (Digest.of(payload), Digest.of(sbom), *(image.digest for image in images.values())):
        with pytest.raises(ManifestUnknown):
            await world.registry.images.find(ADA, WEB, digest)
    assert config is not None


async def test_a_pull_keeps_an_image_and_costs_no_query(world: World) -> None:
    pushed = await push_daily(world, "a", "b", "c")
    world.clock.tick(60 * DAY)
    rules = (KeepRule(Keep.NEWEST, count=1), KeepRule(Keep.PULLED_WITHIN, days=30))
    policy = await world.retention.service.add(ADA, "acme", replace(DRAFT, rules=rules))
    world.registry.images.note_pull(VERA, WEB, await world.registry.images.find(VERA, WEB, pushed["a"].digest))
    await run(world, policy)
    assert await tags(world) == ["a", "c"]


async def test_pulls_survive_and_those_of_the_gone_are_swept(world: World) -> None:
    pushed = await push_daily(world, "a")
    manifest = await world.registry.images.find(ADA, WEB, pushed["a"].digest)
    world.registry.images.note_pull(ADA, WEB, manifest)
    world.registry.images.note_pull(ADA, "acme/gone", manifest)
    await world.retention.pulls.flush()
    before = world.clock.now()
    world.clock.tick(60)
    world.registry.images.note_pull(ADA, WEB, manifest)  # too soon after the last one to be worth a write
    await world.retention.pulls.flush()
    async with world.database.reading() as connection:
        repository_id = (await connection.exec_driver_sql("SELECT id FROM repositories")).scalar_one()
        found = await images_store.tags_and_pulls(connection, repository_id, [manifest.digest])
    assert found == {manifest.digest: (("a",), before)}
    await world.registry.images.delete_manifest(ADA, WEB, manifest.digest)
    _, swept = await world.retention.service.sweep(keep_runs=timedelta(days=1))
    assert swept == 1


async def test_what_is_immutable_or_runs_stays(world: World) -> None:
    pushed = await push_daily(world, "v1", "b", "c", "d", "e")
    await world.retention.rules.add(ADA, "acme", ["**"], TagSelector(("v*",)))
    world.running.digests = {pushed["b"].digest}
    policy = await world.retention.service.add(ADA, "acme", DRAFT)
    ended = await run(world, policy)
    assert await tags(world) == ["b", "d", "e", "v1"]
    assert (ended.deleted, ended.skipped) == (1, 0)


async def test_who_refuses_a_deletion_is_obeyed_and_counted(world: World) -> None:
    refusing = world.refusing
    pushed = await push_daily(world, "a", "b", "c", "d")
    refusing.refused = {pushed["a"].digest}
    ended = await run(world, await world.retention.service.add(ADA, "acme", DRAFT))
    assert (ended.state, ended.deleted, ended.skipped, ended.kept) == (RunState.DONE, 1, 1, 2)
    assert await tags(world) == ["a", "c", "d"]


async def test_a_run_that_broke_goes_on_and_counts_nothing_twice(world: World) -> None:
    refusing = world.refusing
    await push_daily(world, "a", "b", "c", "d", "e")
    policy = await world.retention.service.add(ADA, "acme", DRAFT)
    begun = await world.retention.service.start(ADA, "acme", policy.policy_id)
    again = await world.retention.service.start(ADA, "acme", policy.policy_id)
    assert again == begun
    refusing.failures = [Unavailable("the database is away")]
    await world.worker.run_waiting()
    assert refusing.failures == []
    world.clock.tick(700)
    await world.worker.run_waiting()
    (ended,) = (await world.retention.service.runs(ADA, "acme", policy.policy_id, ALL)).items
    assert (ended.state, ended.deleted, ended.kept, ended.examined) == (RunState.DONE, 3, 2, 5)


async def test_what_changes_during_a_run_is_seen_before_the_next_deletion(world: World) -> None:
    """Between planning and deleting the newest image is deleted by somebody: what would have gone stays."""
    pushed = await push_daily(world, "a", "b", "c")
    asked: list[int] = []

    async def meddle(repository: str) -> set[Digest]:
        asked.append(1)
        if len(asked) == 1:
            await world.registry.images.delete_manifest(ADA, WEB, pushed["c"].digest)
        return set()

    world.running.running_images = meddle  # type: ignore[method-assign]
    ended = await run(world, await world.retention.service.add(ADA, "acme", DRAFT))
    assert await tags(world) == ["a", "b"]
    assert (ended.deleted, ended.kept) == (0, 2)


async def test_a_pull_or_an_instance_between_plan_and_deletion_saves_the_image(world: World) -> None:
    pushed = await push_daily(world, "a", "b", "c")
    answers: list[set[Digest]] = [set(), {pushed["a"].digest}]

    async def later(repository: str) -> set[Digest]:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    world.running.running_images = later  # type: ignore[method-assign]
    ended = await run(world, await world.retention.service.add(ADA, "acme", DRAFT))
    assert (ended.deleted, ended.kept) == (0, 3)


async def test_a_cancelled_run_deletes_nothing_more(world: World) -> None:
    await push_daily(world, "a", "b", "c", "d")
    service = world.retention.service
    policy = await service.add(ADA, "acme", DRAFT)
    begun = await service.start(ADA, "acme", policy.policy_id)
    cancelled = await service.cancel(ADA, "acme", policy.policy_id, begun.run_id)
    assert cancelled.state is RunState.CANCELLED
    assert await service.cancel(ADA, "acme", policy.policy_id, begun.run_id) == cancelled
    await world.worker.run_waiting()
    assert await tags(world) == ["a", "b", "c", "d"]
    world.clock.tick(1)
    ended = await run(world, policy)
    assert ended.deleted == 2
    with pytest.raises(RunEnded):
        await service.cancel(ADA, "acme", policy.policy_id, ended.run_id)


async def test_a_policy_removed_during_its_run_stops_it(world: World) -> None:
    await push_daily(world, "a", "b", "c", "d")
    service = world.retention.service
    policy = await service.add(ADA, "acme", DRAFT)
    await service.start(ADA, "acme", policy.policy_id)
    await service.remove(ADA, "acme", policy.policy_id)
    await world.worker.run_waiting()
    assert await tags(world) == ["a", "b", "c", "d"]


async def test_a_schedule_begins_runs_when_they_are_due(world: World) -> None:
    await push_daily(world, "a", "b", "c")
    service = world.retention.service
    policy = await service.add(ADA, "acme", replace(DRAFT, interval_hours=6))
    idle = await service.add(ADA, "acme", replace(DRAFT, name="by hand", interval_hours=None))
    off = await service.add(ADA, "acme", replace(DRAFT, name="off", enabled=False))
    assert (await service.start_due(), idle.next_run_at, off.next_run_at) == (0, None, None)
    world.clock.tick(6 * 3600)
    assert await service.start_due() == 1
    assert await service.start_due() == 0
    await world.worker.run_waiting()
    assert await tags(world) == ["b", "c"]
    world.clock.tick(30 * 3600)
    assert await service.start_due() == 1
    due = (await service.policy(ADA, "acme", policy.policy_id)).next_run_at
    assert due is not None
    assert due > world.clock.now()


async def test_policies_of_other_tenants_do_not_exist(world: World) -> None:
    """Harbor's CVE-2022-31670: the id of a retention policy was not checked against the project in the path."""
    service = world.retention.service
    mine = await service.add(ADA, "acme", DRAFT)
    theirs = await service.add(BOB, "birch", DRAFT)
    begun = await service.start(ADA, "acme", mine.policy_id)
    for call in (
        lambda: service.policy(BOB, "birch", mine.policy_id),
        lambda: service.replace(BOB, "birch", mine.policy_id, DRAFT),
        lambda: service.remove(BOB, "birch", mine.policy_id),
        lambda: service.preview(BOB, "birch", mine.policy_id, None, ALL),
        lambda: service.start(BOB, "birch", mine.policy_id),
        lambda: service.runs(BOB, "birch", mine.policy_id, ALL),
        lambda: service.policy(BOB, "birch", "x' OR 1=1"),
    ):
        with pytest.raises(PolicyUnknown):
            await call()
    with pytest.raises(RunUnknown):
        await service.cancel(BOB, "birch", theirs.policy_id, begun.run_id)
    with pytest.raises(RunUnknown):
        await service.cancel(BOB, "birch", mine.policy_id, begun.run_id)
    with pytest.raises(NotFound):
        await service.policies(BOB, "acme")
    for principal in (VERA, OTTO):
        with pytest.raises(Denied):
            await service.start(principal, "acme", mine.policy_id)
        with pytest.raises(Denied):
            await service.add(principal, "acme", DRAFT)


async def test_a_policy_is_changed_whole_and_its_name_stays(world: World) -> None:
    service = world.retention.service
    policy = await service.add(ADA, "acme", DRAFT)
    with pytest.raises(PolicyNameTaken):
        await service.add(ADA, "acme", DRAFT)
    wider = replace(DRAFT, name="other", rules=(KeepRule(Keep.ALWAYS),), untagged_days=3, interval_hours=1)
    changed = await service.replace(ADA, "acme", policy.policy_id, wider)
    assert changed == await service.policy(ADA, "acme", policy.policy_id)
    assert (changed.name, changed.rules, changed.untagged_days) == ("tidy", (KeepRule(Keep.ALWAYS),), 3)
    for wrong in (
        replace(DRAFT, rules=()),
        replace(DRAFT, repositories=()),
        replace(DRAFT, rules=(KeepRule(Keep.NEWEST, count=0),)),
        replace(DRAFT, rules=(KeepRule(Keep.PULLED_WITHIN, days=0),)),
        replace(DRAFT, interval_hours=0),
        replace(DRAFT, untagged_days=-1),
    ):
        with pytest.raises(PolicyInvalid):
            await service.replace(ADA, "acme", policy.policy_id, wrong)
    assert await service.policy(ADA, "acme", policy.policy_id) == changed


async def test_the_rules_of_a_tenant_go_with_it(world: World) -> None:
    policy = await world.retention.service.add(ADA, "acme", DRAFT)
    await world.retention.service.start(ADA, "acme", policy.policy_id)
    await world.retention.rules.add(ADA, "acme", ["**"], TagSelector())
    async with world.database.transaction() as unit:
        assert await world.retention.service.tenant_going(unit, "t-acme") is None
    assert await world.retention.service.policies(ADA, "acme") == []
    assert await world.retention.rules.list(ADA, "acme") == []
