"""How an upload ends: its bytes become a blob that a repository links, or nothing is left of it.

Invariant: `spare`, then the store publishes, then `settle`: the three steps of a push in `blob_lives`. What was
reserved for an upload is given back in the transaction that ends it, whichever way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from common.clock import Clock
from common.digest import Digest
from common.errors import QuotaExceeded
from control_plane.blobs import BlobStore, UploadUnknown
from control_plane.database import Database, UnitOfWork
from control_plane.registry import blob_lives, repository_store, upload_store
from control_plane.registry.model import Pushed, Repository, Upload
from control_plane.registry.participants import Hooks
from control_plane.registry.repositories import ensure_repository
from control_plane.tenants.access import Principal


class Settling:
    def __init__(self, database: Database, blobs: BlobStore, clock: Clock, hooks: Hooks) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._hooks = hooks

    async def spare(self, digest: Digest) -> datetime:
        """From the moment returned on, nobody deletes the bytes of this digest for long enough to publish and link."""
        began = self._clock.now()
        async with self._database.reading() as connection:
            condemned = await blob_lives.is_condemned(connection, digest)
        if condemned:
            async with self._database.transaction() as unit:
                await blob_lives.spare(unit.connection, digest)
        return began

    def is_late(self, began: datetime) -> bool:
        return self._clock.now() - began > blob_lives.PUBLISH_WITHIN

    async def settle(
        self, upload: Upload, digest: Digest, size: int, by: Principal, began: datetime, *, is_session: bool
    ) -> Pushed:
        """The bytes are published: link them. A row remembers how a session ended."""
        try:
            async with self._database.transaction() as unit:
                held = await ensure_repository(unit, self._hooks, upload.repository, upload.tenant_id, by)
                await blob_lives.bear(unit.connection, digest, size, self._clock.now())
                if self.is_late(began) and await self._blobs.stat(digest) != size:
                    raise UploadUnknown(
                        f"upload {upload.upload_id} stood still for too long and its bytes were collected",
                        action="start a new upload",
                    )
                if is_session:
                    finished = replace(upload, digest=digest, size=size)
                    await upload_store.add_finished(unit.connection, finished, self._clock.now())
                # What was reserved for the upload is given back together with what it became being charged.
                await self._hooks.meter.closed(unit, [upload.upload_id])
                await self.link(unit, held, digest, size, by)
        except QuotaExceeded:
            # Only if a limit came down while the bytes came in. What nobody links is collected.
            await self.end([upload.upload_id])
            raise
        return Pushed(upload.repository, digest, size)

    async def link(self, unit: UnitOfWork, held: Repository, digest: Digest, size: int, by: Principal) -> None:
        if await repository_store.link_blob(unit.connection, held.repository_id, digest, self._clock.now()):
            for participant in self._hooks.participants:
                await participant.blob_linked(unit, held, digest, size, by)
        else:
            for participant in self._hooks.participants:
                await participant.blob_relied_on(unit, held, digest, by)

    async def end(self, upload_ids: Sequence[str]) -> None:
        """Nothing is left of them, finished ones are forgotten."""
        for upload_id in upload_ids:
            await self._blobs.abort(upload_id)
        async with self._database.transaction() as unit:
            await upload_store.delete_uploads(unit.connection, upload_ids)
            await self._hooks.meter.closed(unit, upload_ids)
