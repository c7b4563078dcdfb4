"""Pushing blobs: sessions, chunks, the last request, mounting from another repository, expiry.

A session belongs to one repository and one principal; to everybody else it does not exist. Its bytes are the blob
store's, its row is ours. Order of the last request: the store publishes the bytes, then one transaction links them to
the repository (`blob_lives` says how that goes together with the garbage collection, and with others who push the same
blob at this moment). Death in between costs the client a repetition of this blob, and leaves bytes that nobody links,
which the garbage collection takes.

A finished session is remembered until it expires: a client that lost the answer to its last request gets it again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from common.clock import Clock
from common.digest import Digest, DigestMismatch
from common.errors import QuotaExceeded
from common.identifiers import is_id, new_id
from control_plane.blobs import BlobStore, UploadUnknown
from control_plane.database import Database, UnitOfWork
from control_plane.registry import blob_lives, repository_store, upload_store
from control_plane.registry.collaborators import TenantDirectory, tenant_id_of
from control_plane.registry.failures import ScopeInsufficient
from control_plane.registry.model import Pushed, Repository, Upload
from control_plane.registry.participants import Hooks
from control_plane.registry.repositories import ensure_repository
from control_plane.registry.rights import Rights
from control_plane.registry.scopes import PULL, PUSH
from control_plane.tenants.access import Principal

UPLOAD_LIFETIME = timedelta(days=1)
_EXPIRY_BATCH = 500
Chunks = AsyncIterator[bytes]
log = structlog.get_logger()


class UploadService:
    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        tenants: TenantDirectory,
        clock: Clock,
        hooks: Hooks,
        rights: Rights,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._tenants = tenants
        self._clock = clock
        self._hooks = hooks
        self._rights = rights

    async def start(self, principal: Principal, repository: str) -> Upload:
        """Raises what `Rights.require` does, `RepositoryUnknown` if there is no such tenant, `DiskFull`."""
        upload = await self._new(principal, repository)
        await self._blobs.create_upload(upload.upload_id)
        async with self._database.transaction() as unit:
            await upload_store.add_upload(unit.connection, upload, self._clock.now())
            await self._hooks.meter.opened(unit, upload)
        return upload

    async def push_whole(
        self, principal: Principal, repository: str, digest: Digest, chunks: Chunks, declared: int | None = None
    ) -> Pushed:
        """A blob in one request (POST with `digest`); nothing is left of it if it fails. `declared`: how many bytes
        the client says that it will send.
        """
        upload = await self._new(principal, repository)
        await self._blobs.create_upload(upload.upload_id)
        try:
            metered = self._hooks.meter.metered(upload, 0, chunks, declared, digest)
            await self._blobs.append(upload.upload_id, 0, metered, digest.algorithm)
            began = await self._spare(digest)
            size = await self._blobs.commit(upload.upload_id, digest)
        except BaseException:
            await self._end([upload.upload_id])
            raise
        return await self._settle(upload, digest, size, principal, began, is_session=False)

    async def append(
        self,
        principal: Principal,
        repository: str,
        upload_id: str,
        chunks: Chunks,
        offset: int | None = None,
        algorithm: str = "sha256",
        declared: int | None = None,
        digest: Digest | None = None,
    ) -> int:
        """Write at `offset`, or at the end if it is None; returns the new size. What arrived before a failure stays,
        unless it is `QuotaExceeded`: that ends the session. `declared`: how many bytes the client says that it will
        send; `digest`: what it says the whole is.
        """
        upload = await self._find(principal, repository, upload_id)
        return await self._append(upload, chunks, offset, algorithm, declared, digest)

    async def push_rest(
        self,
        principal: Principal,
        repository: str,
        upload_id: str,
        digest: Digest,
        chunks: Chunks,
        offset: int | None = None,
        declared: int | None = None,
    ) -> Pushed:
        """`append` and `finish` in one request. Raises what they do."""
        upload = await self._find(principal, repository, upload_id)
        await self._append(upload, chunks, offset, digest.algorithm, declared, digest)
        return await self._finish(principal, upload, digest)

    async def _append(
        self,
        upload: Upload,
        chunks: Chunks,
        offset: int | None,
        algorithm: str,
        declared: int | None,
        digest: Digest | None,
    ) -> int:
        if upload.digest is not None:
            raise _unknown(upload.upload_id)
        if offset is None:
            offset = await self._blobs.upload_size(upload.upload_id)
        metered = self._hooks.meter.metered(upload, offset, chunks, declared, digest)
        try:
            return await self._blobs.append(upload.upload_id, offset, metered, algorithm)
        except QuotaExceeded:
            await self._end([upload.upload_id])
            raise

    async def size(self, principal: Principal, repository: str, upload_id: str) -> int:
        upload = await self._find(principal, repository, upload_id)
        return upload.size if upload.digest is not None else await self._blobs.upload_size(upload_id)

    async def finish(self, principal: Principal, repository: str, upload_id: str, digest: Digest) -> Pushed:
        """Publish what was appended. Repeating it after success is harmless.

        Raises `DigestMismatch`; the session is over then (distribution specification: a 4xx other than 416 ends it).
        """
        upload = await self._find(principal, repository, upload_id)
        if upload.digest is not None:
            if upload.digest != digest:
                raise _unknown(upload_id)
            return Pushed(repository, digest, upload.size)
        return await self._finish(principal, upload, digest)

    async def _finish(self, principal: Principal, upload: Upload, digest: Digest) -> Pushed:
        began = await self._spare(digest)
        try:
            size = await self._blobs.commit(upload.upload_id, digest)
        except DigestMismatch:
            await self._end([upload.upload_id])
            raise
        return await self._settle(upload, digest, size, principal, began, is_session=True)

    async def cancel(self, principal: Principal, repository: str, upload_id: str) -> None:
        await self._find(principal, repository, upload_id)
        await self._end([upload_id])

    async def mount(self, principal: Principal, repository: str, digest: Digest, source: str | None) -> Pushed | None:
        """Link a blob of another repository that the principal may pull from; None if that cannot be, for whatever
        reason, so that the client uploads it. Without `source` any repository that the principal may pull from serves.

        Raises `ScopeInsufficient` if only the token, not the right, is in the way: the client can get another one.
        """
        await self._rights.require(principal, repository, PUSH)
        await self._hooks.upstreams.check_push(principal, repository)
        tenant_id = await tenant_id_of(self._tenants, repository)
        if source is not None and not await self._rights.may(principal, source, PULL):
            if await self._rights.permits(principal, source, PULL):
                await self._rights.require(principal, source, PULL)
            return None
        began = self._clock.now()
        size = await self._size_in(principal, digest, source)
        if size is None or await self._blobs.stat(digest) != size:
            return None
        async with self._database.transaction() as unit:
            # Repository before blob, like everybody: nobody waits in a circle.
            await repository_store.hold_repository(unit.connection, repository, alone=False)
            if await blob_lives.revive(unit.connection, digest) != size or self._is_late(began):
                return None
            held = await ensure_repository(unit, self._hooks, repository, tenant_id, principal)
            await self._link(unit, held, digest, size, principal)
        return Pushed(repository, digest, size)

    async def expire(self, lifetime: timedelta = UPLOAD_LIFETIME) -> int:
        """For a periodic job: forget sessions that nobody touched for `lifetime`; returns how many. Finished ones go
        as well.
        """
        older_than = self._clock.now() - lifetime
        stale = [each.upload_id for each in await self._blobs.pending_uploads(older_than)]
        for start in range(0, len(stale), _EXPIRY_BATCH):
            await self._end(stale[start : start + _EXPIRY_BATCH])
        expired = set(stale)
        after = ""
        while batch := await self._rows_before(older_than, after):
            after = batch[-1]
            gone = [upload_id for upload_id in batch if not await self._is_pending(upload_id)]
            await self._end(gone)
            expired |= set(gone)
        if expired:
            log.info("uploads expired", count=len(expired))
        return len(expired)

    async def _rows_before(self, moment: datetime, after: str) -> list[str]:
        async with self._database.reading() as connection:
            return await upload_store.uploads_before(connection, moment, after, _EXPIRY_BATCH)

    async def _is_pending(self, upload_id: str) -> bool:
        try:
            await self._blobs.upload_size(upload_id)
        except UploadUnknown:
            return False
        return True

    async def _new(self, principal: Principal, repository: str) -> Upload:
        await self._rights.require(principal, repository, PUSH)
        await self._hooks.upstreams.check_push(principal, repository)
        return self._upload(principal, repository, await tenant_id_of(self._tenants, repository))

    def _upload(self, principal: Principal, repository: str, tenant_id: str) -> Upload:
        return Upload(new_id(self._clock), repository, tenant_id, principal.user_id or "")

    async def _find(self, principal: Principal, repository: str, upload_id: str) -> Upload:
        await self._rights.require(principal, repository, PUSH)
        if not is_id(upload_id):
            raise _unknown(upload_id)
        async with self._database.reading() as connection:
            upload = await upload_store.find_upload(connection, upload_id)
        if upload is None or (upload.repository, upload.user_id) != (repository, principal.user_id):
            raise _unknown(upload_id)
        return upload

    async def _size_in(self, principal: Principal, digest: Digest, source: str | None) -> int | None:
        if source is None:
            source = await self._holder(principal, digest)
        if source is None:
            return None
        async with self._database.reading() as connection:
            return await repository_store.linked_blob_size(connection, source, digest)

    async def _holder(self, principal: Principal, digest: Digest) -> str | None:
        """A repository that the principal may pull the blob from. Raises `ScopeInsufficient` (its fact `source` names
        one) if only with another token.
        """
        anyway = replace(principal, scopes=None)
        for each in (principal, anyway) if principal.scopes is not None else (principal,):
            visible = await self._rights.visible(each)
            async with self._database.reading() as connection:
                names = await repository_store.repositories_with_blob(
                    connection, digest, visible, self._clock.now(), limit=1
                )
            if names and each is principal:
                return names[0]
            if names:
                raise ScopeInsufficient(
                    f"the token is not for {PULL} on {names[0]}",
                    action="ask for a token with this scope",
                    source=names[0],
                )
        return None

    async def _spare(self, digest: Digest) -> datetime:
        """From the moment returned on, nobody deletes the bytes of this digest for long enough to publish and link."""
        began = self._clock.now()
        async with self._database.reading() as connection:
            condemned = await blob_lives.is_condemned(connection, digest)
        if condemned:
            async with self._database.transaction() as unit:
                await blob_lives.spare(unit.connection, digest)
        return began

    def _is_late(self, began: datetime) -> bool:
        return self._clock.now() - began > blob_lives.PUBLISH_WITHIN

    async def _settle(
        self, upload: Upload, digest: Digest, size: int, by: Principal, began: datetime, *, is_session: bool
    ) -> Pushed:
        """The bytes are published: link them. A session has a row, which remembers how it ended."""
        try:
            async with self._database.transaction() as unit:
                held = await ensure_repository(unit, self._hooks, upload.repository, upload.tenant_id, by)
                await blob_lives.bear(unit.connection, digest, size, self._clock.now())
                if self._is_late(began) and await self._blobs.stat(digest) != size:
                    raise UploadUnknown(
                        f"upload {upload.upload_id} stood still for too long and its bytes were collected",
                        action="start a new upload",
                    )
                if is_session:
                    await upload_store.finish_upload(unit.connection, upload.upload_id, digest, size)
                # What was reserved for the upload is given back together with what it became being charged.
                await self._hooks.meter.closed(unit, [upload.upload_id])
                await self._link(unit, held, digest, size, by)
        except QuotaExceeded:
            # Only if a limit came down while the bytes came in. What nobody links is collected.
            await self._end([upload.upload_id])
            raise
        return Pushed(upload.repository, digest, size)

    async def _link(self, unit: UnitOfWork, held: Repository, digest: Digest, size: int, by: Principal) -> None:
        if await repository_store.link_blob(unit.connection, held.repository_id, digest, self._clock.now()):
            for participant in self._hooks.participants:
                await participant.blob_linked(unit, held, digest, size, by)
        else:
            for participant in self._hooks.participants:
                await participant.blob_relied_on(unit, held, digest, by)

    async def _end(self, upload_ids: Sequence[str]) -> None:
        for upload_id in upload_ids:
            await self._blobs.abort(upload_id)
        async with self._database.transaction() as unit:
            await upload_store.delete_uploads(unit.connection, upload_ids)
            await self._hooks.meter.closed(unit, upload_ids)


def _unknown(upload_id: str) -> UploadUnknown:
    return UploadUnknown(f"there is no upload {upload_id[:64]!r}", action="start a new upload")
