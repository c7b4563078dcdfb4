"""Letting bytes in as far as there is room for them: quota as an upload meter.

Room is reserved before a byte is handed on: all of it at once if the client says how much comes, else in steps as it
streams. A transaction lasts for the reservation only, never while bytes stream. A request that names a blob the tenant
has already needs no room, up to the size of that blob; a stream whose digest nobody knows yet does.

Where nobody has set a limit nothing is reserved: the push is charged when it is linked. A limit set meanwhile, here or
in another replica, is seen within seconds, and holds at that moment too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from common.clock import Clock
from common.digest import Digest
from common.errors import QuotaExceeded
from control_plane.database import Database, UnitOfWork
from control_plane.registry.model import Upload
from control_plane.registry.quota import store
from control_plane.registry.quota.ledger import Ledger, Step
from control_plane.registry.quota.model import Change, subjects_of
from control_plane.registry.quota.rules import STEP_BYTES
from control_plane.registry.recent import Recent

_RECENT_PUSHERS = 10_000


class QuotaMeter:
    """Implements `UploadMeter`."""

    def __init__(self, database: Database, ledger: Ledger, clock: Clock) -> None:
        self._database = database
        self._ledger = ledger
        self._clock = clock
        # Whether any limit is in force, by tenant and user.
        self._limited: Recent[tuple[str, str], bool] = Recent(clock, _RECENT_PUSHERS)

    def limits_changed(self) -> None:
        """In this process; others see it when what they know is too old."""
        self._limited = Recent(self._clock, _RECENT_PUSHERS)

    async def metered(
        self, upload: Upload, offset: int, chunks: AsyncIterator[bytes], declared: int | None, digest: Digest | None
    ) -> AsyncIterator[bytes]:
        covered: int | None = None  # without limits all is
        if await self._is_limited(upload):
            covered = 0
            if declared:
                # The steps are for those who come with many small requests.
                ahead = STEP_BYTES if offset else 0
                covered = await self._covered(upload, offset + declared, offset + declared + ahead, digest)
        end = offset
        async for chunk in chunks:
            end += len(chunk)
            if covered is not None and end > covered:
                covered = await self._covered(upload, end, end + STEP_BYTES, digest)
            yield chunk

    async def closed(self, unit: UnitOfWork, upload_ids: Sequence[str]) -> None:
        taken = await store.take_reservations(unit.connection, upload_ids)
        if taken:
            changes = self._ledger.changes(unit)
            for tenant_id, user_id, size in taken:
                changes.add("", tenant_id, user_id, Change(reserved_bytes=-size))

    async def _is_limited(self, upload: Upload) -> bool:
        key = (upload.tenant_id, upload.user_id)
        known = self._limited.get(key)
        if known is None:
            recent = self._limited
            begun = recent.begin()
            subjects = subjects_of(*key)
            async with self._database.reading() as connection:
                accounts = await store.find_accounts(connection, subjects, self._ledger.defaults)
            known = any(account.limits.any for account in accounts.values())
            recent.keep(key, known, begun)
        return known

    async def _covered(self, upload: Upload, need: int, wish: int, digest: Digest | None) -> int:
        """How many bytes of the upload there is room for, at least `need`. Raises `QuotaExceeded`."""
        with self._ledger.counting():
            try:
                return await self._reserved(upload, need, wish)
            except QuotaExceeded:
                paid = await self._already_paid(upload, digest)
                if paid < need:
                    raise
                return paid

    async def _already_paid(self, upload: Upload, digest: Digest | None) -> int:
        if digest is None:
            return 0
        async with self._database.reading() as connection:
            return await store.charged_size(connection, upload.tenant_id, digest) or 0

    async def _reserved(self, upload: Upload, need: int, wish: int) -> int:
        """Have at least `need` bytes reserved for the upload; returns how many are. Raises `QuotaExceeded`."""
        upload_id, tenant_id, user_id = upload.upload_id, upload.tenant_id, upload.user_id
        subjects, tenant = subjects_of(tenant_id, user_id), upload.repository.partition("/")[0]
        now = self._clock.now()
        async with self._database.transaction() as unit:
            if need == wish and await store.first_reservation(
                unit.connection, upload_id, tenant_id, user_id, need, now
            ):
                await self._ledger.reserve_all(unit, subjects, need, tenant)
                return need
            have = await store.hold_reservation(unit.connection, upload_id, tenant_id, user_id, now)
            if have >= need:
                return have
            more = await self._ledger.reserve(unit, subjects, Step(tenant, have, need, wish))
            await store.set_reservation(unit.connection, upload_id, have + more)
            return have + more
