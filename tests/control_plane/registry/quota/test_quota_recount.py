"""A mistake in the accounts is found, told and mended; warnings; the jobs. On SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, insert, select, update

from common.clock import ManualClock
from common.digest import Digest
from common.errors import Denied, NotFound, QuotaExceeded
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database.outbox import outbox
from control_plane.registry.quota.jobs import RECALCULATE_KIND, SCHEDULES, SWEEP_KIND, build_handlers
from control_plane.registry.quota.model import Limits
from control_plane.registry.quota.tables import quota_accounts, quota_charges, quota_reservations
from control_plane.registry.upload_names import stored_id
from control_plane.web.paging import PageRequest
from tests.control_plane.registry.people import ADA, BOB, OTTO, ROOT, VERA
from tests.control_plane.registry.pushing import WEB, chunks_of, push_blob, push_image
from tests.control_plane.registry.quota.quotas import ACME, ADAS, Ward

DATA = b"x" * 100


class Run:
    """A job that is run by hand."""

    id, payload, attempt = "j", {}, 1

    async def report(self, progress: float, note: str = "") -> None: ...


async def spoil(ward: Ward, *statements: object) -> None:
    async with ward.database.transaction() as unit:
        for statement in statements:
            await unit.connection.execute(statement)  # type: ignore[call-overload]


async def test_nothing_is_wrong_after_ordinary_days(ward: Ward) -> None:
    await push_image(ward.registry, "a")
    await push_image(ward.registry, "b", repository="birch/b", principal=BOB)
    drifts = await ward.quota.recount.recalculate_all()
    assert len(drifts) == 4
    assert not any(drift.any for drift in drifts)


async def test_figures_that_are_wrong_are_told_and_mended(ward: Ward) -> None:
    await push_blob(ward.registry, DATA)
    await spoil(ward, update(quota_accounts).values(used_bytes=7, reserved_bytes=3, image_count=9))
    drift = await ward.quota.service.recalculate_tenant(ROOT, "acme")
    assert (drift.used_bytes, drift.reserved_bytes, drift.images) == (-93, 3, 8)
    drift = await ward.quota.service.recalculate_user(ROOT, "ada")
    assert (drift.used_bytes, drift.reserved_bytes, drift.images) == (-93, 3, 8)
    await ward.check_exact()
    assert ward.metrics.get_sample_value("registry_quota_drift_bytes_total") == 2 * 96


async def test_charges_that_are_missing_too_many_or_wrong_are_mended(ward: Ward) -> None:
    first, second = await push_blob(ward.registry, DATA), await push_blob(ward.registry, b"two")
    await spoil(
        ward,
        delete(quota_charges).where(quota_charges.c.digest == str(first)),
        update(quota_charges).where(quota_charges.c.digest == str(second)).values(links=5),
        insert(quota_charges).values(
            tenant_id="t-acme", digest=str(Digest.of(b"no")), user_id="u-ada", size=50, links=1
        ),
    )
    assert (await ward.quota.recount.recalculate(ACME)).charges == 3
    await ward.quota.recount.recalculate(ADAS)
    await ward.check_exact()
    await ward.registry.contents.unlink_blob(ADA, WEB, first)
    await ward.registry.contents.unlink_blob(ADA, WEB, second)
    await ward.check_exact()
    assert (await ward.account()).used_bytes == 0


async def test_a_reservation_whose_process_died_is_given_back_at_the_second_look(
    ward: Ward, blobs: MemoryBlobStore, clock: ManualClock
) -> None:
    await ward.limit(Limits(storage_bytes=300))
    living = await ward.registry.uploads.start(ADA, WEB)
    await ward.registry.uploads.append(ADA, WEB, living.upload_id, chunks_of(DATA), declared=100)
    dead = await ward.registry.uploads.start(ADA, WEB)
    await ward.registry.uploads.append(ADA, WEB, dead.upload_id, chunks_of(DATA), declared=100)
    await blobs.abort(stored_id(dead.upload_id))  # as after a commit whose process died before it linked
    assert (await ward.account()).reserved_bytes == 200
    sweep = build_handlers(ward.quota.recount)[SWEEP_KIND]
    found = []
    for _ in range(3):
        clock.tick(3700)
        found.append((await sweep(Run()) or {})["swept"])
    assert found == [0, 1, 0]
    assert (await ward.account()).reserved_bytes == 100
    async with ward.database.reading() as connection:
        assert len((await connection.execute(select(quota_reservations))).all()) == 1
    await ward.check_exact()


async def test_the_daily_job_reports_the_drift(ward: Ward) -> None:
    await push_blob(ward.registry, DATA)
    recalculate = build_handlers(ward.quota.recount)[RECALCULATE_KIND]
    assert await recalculate(Run()) == {"accounts": 2, "wrong": 0, "drift_bytes": 0}
    await spoil(ward, update(quota_accounts).where(quota_accounts.c.kind == "tenant").values(used_bytes=90))
    assert await recalculate(Run()) == {"accounts": 2, "wrong": 1, "drift_bytes": 10}
    assert await recalculate(Run()) == {"accounts": 2, "wrong": 0, "drift_bytes": 0}
    assert {schedule.kind for schedule in SCHEDULES} == set(build_handlers(ward.quota.recount))


async def test_reaching_80_and_90_percent_is_announced_once_per_crossing(ward: Ward) -> None:
    async def announced() -> list[tuple[str, int]]:
        async with ward.database.transaction() as unit:
            topic = outbox.c.topic == "registry.quota_nearly_full"
            rows = (await unit.connection.execute(select(outbox).where(topic).order_by(outbox.c.id))).all()
            await unit.connection.execute(delete(outbox))
        return [(row.payload["kind"], row.payload["percent"]) for row in rows]

    await ward.limit(Limits(storage_bytes=1000))
    await push_blob(ward.registry, b"a" * 799)
    assert await announced() == []
    last = await push_blob(ward.registry, b"b")
    assert await announced() == [("tenant", 80)]
    await ward.registry.contents.unlink_blob(ADA, WEB, last)
    await push_blob(ward.registry, b"b")
    assert await announced() == []
    large = await push_blob(ward.registry, b"c" * 200)
    assert await announced() == [("tenant", 90)]
    await ward.registry.contents.unlink_blob(ADA, WEB, large)
    await push_blob(ward.registry, b"c" * 200)
    assert await announced() == [("tenant", 90)]
    await ward.limit(Limits(storage_bytes=10_000))
    await ward.limit(Limits(storage_bytes=1000))
    assert await announced() == [("tenant", 90)]


async def test_the_defaults_hold_until_limits_are_given_and_again_after_they_are_taken(ward: Ward) -> None:
    await ward.limit(Limits(storage_bytes=5))
    with pytest.raises(QuotaExceeded):
        await push_blob(ward.registry, DATA)
    await ward.limit(None)
    await push_blob(ward.registry, DATA)
    shown = await ward.quota.service.of_tenant(VERA, "acme")
    assert (shown.account.own, shown.account.limits) == (False, Limits())


async def test_members_see_their_tenants_quota_and_only_the_platforms_administrators_set_it(ward: Ward) -> None:
    service = ward.quota.service
    assert (await service.of_user(OTTO, "otto")).name == "otto"
    page = await service.of_tenants(ROOT, PageRequest())
    assert [each.name for each in page.items] == ["acme", "birch"]
    with pytest.raises(NotFound):
        await service.of_tenant(BOB, "acme")
    for forbidden in (
        service.of_user(ADA, "otto"),
        service.limit_tenant(ADA, "acme", Limits()),
        service.limit_user(ADA, "ada", Limits()),
        service.recalculate_tenant(ADA, "acme"),
    ):
        with pytest.raises(Denied):
            await forbidden


async def test_refusals_are_counted_by_the_limit_in_the_way(ward: Ward) -> None:
    await ward.limit(Limits(storage_bytes=5))
    with pytest.raises(QuotaExceeded):
        await push_blob(ward.registry, DATA)
    labels = {"quota": "storage_bytes", "subject": "tenant"}
    assert ward.metrics.get_sample_value("registry_quota_refusals_total", labels) == 1
