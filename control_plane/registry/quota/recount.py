"""Proving that accounts are right, and mending them if a mistake of ours made them wrong.

The proof takes no lock: in one snapshot an account and what the registry's tables add up to are of the same moment
(every transaction changes both), so any difference is a mistake, not a push under way. Mending adds the difference,
which stays right while others push.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from common.clock import Clock
from common.digest import Digest
from control_plane.blobs import BlobStore, UploadUnknown
from control_plane.database import Database
from control_plane.registry.quota import store, truth_store
from control_plane.registry.quota.ledger import Ledger
from control_plane.registry.quota.meter import QuotaMeter
from control_plane.registry.quota.metrics import QuotaMetrics
from control_plane.registry.quota.model import Change, Drift, Kind, Subject

_PAGE = 200
# A reservation renewed longer ago is asked after; between publishing and linking an upload is nowhere to be seen.
QUIET = timedelta(hours=1)
log = structlog.get_logger()


class Recount:
    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        ledger: Ledger,
        meter: QuotaMeter,
        metrics: QuotaMetrics,
        clock: Clock,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._ledger = ledger
        self._meter = meter
        self._metrics = metrics
        self._clock = clock

    async def recalculate(self, subject: Subject) -> Drift:
        """What was wrong with the account, and is not any more."""
        charges = await self._mend_charges(subject.subject_id) if subject.kind is Kind.TENANT else 0
        async with self._database.reading() as connection:
            found = await store.find_accounts(connection, [subject], self._ledger.defaults)
            true = await truth_store.truth_of(connection, subject)
        account = found[subject]
        drift = Drift(
            subject,
            account.used_bytes - true.used_bytes,
            account.reserved_bytes - true.reserved_bytes,
            account.images - true.images,
            charges,
        )
        if drift.any:
            await self._mend(drift)
        return drift

    async def recalculate_all(self) -> list[Drift]:
        """The drifts of every account; tenants first, whose charges the users' figures rest on."""
        drifts = []
        for kind in Kind:
            after = ""
            while subjects := await self._subjects(kind, after):
                drifts += [await self.recalculate(subject) for subject in subjects]
                after = subjects[-1].subject_id
        return drifts

    async def sweep(self) -> int:
        """Give back what is reserved for uploads that are no more (a process died): those that were missing in two
        looks `QUIET` apart. Returns how many.
        """
        swept, after = 0, ""
        while True:
            async with self._database.reading() as connection:
                batch = await store.quiet_reservations(connection, self._clock.now() - QUIET, after, _PAGE)
            if not batch:
                return swept
            after = batch[-1][0]
            swept += await self._sweep(batch)

    async def _sweep(self, batch: Sequence[tuple[str, datetime | None]]) -> int:
        now = self._clock.now()
        missing = {upload_id: since for upload_id, since in batch if not await self._is_there(upload_id)}
        over = [upload_id for upload_id, since in missing.items() if since is not None and since <= now - QUIET]
        async with self._database.transaction() as unit:
            first_time = [upload_id for upload_id, since in missing.items() if since is None]
            await store.mark_missing(unit.connection, first_time, now)
            await self._meter.closed(unit, over)
        if over:
            self._metrics.swept(len(over))
            log.warning("reservations of vanished uploads given back", count=len(over))
        return len(over)

    async def _is_there(self, upload_id: str) -> bool:
        try:
            await self._blobs.upload_size(upload_id)
        except UploadUnknown:
            return False
        return True

    async def _subjects(self, kind: Kind, after: str) -> list[Subject]:
        async with self._database.reading() as connection:
            return await store.subjects_after(connection, kind, after, _PAGE)

    async def _mend_charges(self, tenant_id: str) -> int:
        async with self._database.reading() as connection:
            wrong = await truth_store.wrong_charges(connection, tenant_id)
        for digest in wrong:
            async with self._database.transaction() as unit:
                # Written first, and so held: links that are made or removed meanwhile count on from here.
                await store.charge(unit.connection, tenant_id, Digest.parse(digest), "", 0)
                links, size = await truth_store.links_of(unit.connection, tenant_id, digest)
                await store.put_charge(unit.connection, tenant_id, digest, "", size, links)
        if wrong:
            log.error("quota charges were wrong and are mended", tenant_id=tenant_id, count=len(wrong))
        return len(wrong)

    async def _mend(self, drift: Drift) -> None:
        log.error(
            "quota account was wrong and is mended",
            kind=drift.subject.kind.value,
            subject_id=drift.subject.subject_id,
            used_bytes=drift.used_bytes,
            reserved_bytes=drift.reserved_bytes,
            images=drift.images,
        )
        self._metrics.drifted(abs(drift.used_bytes) + abs(drift.reserved_bytes))
        back = Change(-drift.used_bytes, -drift.reserved_bytes, -drift.images)
        async with self._database.transaction() as unit:
            held = await store.hold_accounts(unit.connection, [drift.subject], self._ledger.defaults)
            # Not by the rules: what is there is there, also above the limit.
            mended = [
                replace(
                    account,
                    used_bytes=account.used_bytes + back.used_bytes,
                    reserved_bytes=account.reserved_bytes + back.reserved_bytes,
                    images=account.images + back.images,
                )
                for account in held
            ]
            await store.write_figures(unit.connection, mended)
            await self._ledger.warn(unit, mended)
