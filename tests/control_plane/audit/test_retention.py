"""The beginning of the trail goes only after it was exported, and leaves a sealed checkpoint."""

from __future__ import annotations

import hashlib

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from common.clock import ManualClock
from common.errors import Invalid
from control_plane.audit import store
from control_plane.audit.auditing import Auditing
from control_plane.audit.model import Search
from control_plane.audit.retention import ChainBroken, ExportDiffers, PruneTooYoung
from control_plane.database import Database
from tests.control_plane.audit.acts import ADA, EVERYTHING, chain, filled, push, record, tamper

DAYS_31 = 31 * 86400.0


async def exported(auditing: Auditing, through: int) -> str:
    digest = hashlib.sha256()
    async for piece in auditing.reading.export(EVERYTHING, Search(), 0, through):
        digest.update(piece)
    return digest.hexdigest()


async def test_what_was_exported_goes_and_the_rest_still_verifies(
    database: Database, auditing: Auditing, clock: ManualClock
) -> None:
    made = await filled(database, auditing, 10)
    await auditing.retention.anchor()
    clock.tick(DAYS_31)
    checkpoint = await auditing.retention.prune(ADA, 6, await exported(auditing, 6))
    assert (checkpoint.link.sequence, checkpoint.link.hash) == (6, made[5].hash)
    await auditing.sealer.seal_all()
    left = await chain(auditing)
    assert [sealed.sequence for sealed in left] == [7, 8, 9, 10, 11]
    assert left[-1].entry.operation == "audit.pruned"
    verdict = await auditing.reading.verify()
    assert (verdict.whole, verdict.checked) == (True, 5)
    with pytest.raises(Invalid):
        await auditing.retention.prune(ADA, 6, "0" * 64)


async def test_nothing_goes_without_its_export(database: Database, auditing: Auditing, clock: ManualClock) -> None:
    await filled(database, auditing, 5)
    whole = await exported(auditing, 5)
    with pytest.raises(PruneTooYoung):
        await auditing.retention.prune(ADA, 5, whole)
    clock.tick(DAYS_31)
    with pytest.raises(ExportDiffers):
        await auditing.retention.prune(ADA, 4, whole)
    with pytest.raises(Invalid):
        await auditing.retention.prune(ADA, 6, whole)
    assert len(await chain(auditing)) == 5


async def test_a_broken_stretch_is_evidence_and_stays(
    database: Database, auditing: Auditing, clock: ManualClock
) -> None:
    await filled(database, auditing, 5)
    clock.tick(DAYS_31)
    whole = await exported(auditing, 5)
    await tamper(database, "UPDATE audit_events SET operator = 'eve' WHERE sequence = 2")
    with pytest.raises(ChainBroken, match="entry 2"):
        await auditing.retention.prune(ADA, 5, whole)


async def test_a_crash_after_the_checkpoint_is_finished_by_the_job(
    database: Database, auditing: Auditing, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(database, auditing, 5)
    clock.tick(DAYS_31)
    whole = await exported(auditing, 3)

    async def crash(*_: object) -> int:
        raise SystemError("killed")

    with monkeypatch.context() as killed:
        killed.setattr(store, "drop", crash)
        with pytest.raises(SystemError):
            await auditing.retention.prune(ADA, 3, whole)
    assert (await auditing.reading.verify()).whole
    assert await auditing.retention.drop_pruned() == 3
    assert await auditing.retention.drop_pruned() == 0


async def test_a_forged_checkpoint_opens_the_way_for_nobody_unnoticed(database: Database, auditing: Auditing) -> None:
    made = await filled(database, auditing, 5)
    async with database.transaction() as unit:
        await unit.connection.execute(
            text(
                "INSERT INTO audit_checkpoints (sequence, hash, export, made_at, made_by, seal)"
                f" VALUES (3, '{made[2].hash}', '{'0' * 64}', '2026-01-01 00:00:00', 'eve', :seal)"
            ),
            {"seal": b"x" * 60},
        )
        await unit.connection.execute(text("DELETE FROM audit_events WHERE sequence <= 3"))
    verdict = await auditing.reading.verify()
    assert (verdict.whole, verdict.why) == (False, "the checkpoint is not genuine")


async def test_a_checkpoint_lets_nothing_later_go(database: Database, auditing: Auditing, clock: ManualClock) -> None:
    await filled(database, auditing, 5)
    clock.tick(DAYS_31)
    await auditing.retention.prune(ADA, 2, await exported(auditing, 2))
    await record(database, auditing, push())
    for statement in ("DELETE FROM audit_events WHERE sequence = 3", "DELETE FROM audit_checkpoints"):
        with pytest.raises(DBAPIError, match="append-only"):
            async with database.transaction() as unit:
                await unit.connection.execute(text(statement))
