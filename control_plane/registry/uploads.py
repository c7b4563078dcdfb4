"""Pushing blobs: sessions, chunks, the last request, mounting from another repository, expiry.

A session belongs to one repository and one principal; to everybody else it does not exist. Its name says so, sealed
(`upload_names`), and its bytes are the blob store's: until they are published there is no row. Order of the last
request: the store publishes the bytes, then one transaction links them to the repository (`blob_lives` says how that
goes together with the garbage collection, and with others who push the same blob at this moment). Death in between
costs the client a repetition of this blob, and leaves bytes that nobody links, which the garbage collection takes.

A finished session is remembered by a row until it expires: a client that lost the answer to its last request gets it
again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from common.clock import Clock
from common.digest import Digest, DigestMismatch
from common.errors import QuotaExceeded
from common.identifiers import new_id
from control_plane.blobs import BlobStore, UploadUnknown
from control_plane.database import Database
from control_plane.registry import blob_lives, repository_store, upload_store
from control_plane.registry.collaborators import TenantDirectory, tenant_id_of
from control_plane.registry.failures import ScopeInsufficient
from control_plane.registry.model import Pushed, Upload
from control_plane.registry.participants import Hooks
from control_plane.registry.repositories import ensure_repository
from control_plane.registry.rights import Rights
from control_plane.registry.scopes import PULL, PUSH
from control_plane.registry.upload_names import UploadNames
from control_plane.registry.upload_settling import Settling
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
        names: UploadNames,
    ) -> None:
        self._database = database
        self._names = names
        self._blobs = blobs
        self._tenants = tenants
        self._clock = clock
        self._hooks = hooks
        self._rights = rights
        self._settling = Settling(database, blobs, clock, hooks)

    async def start(self, principal: Principal, repository: str) -> Upload:
        """The upload, under the name that its client is to know it by. Raises what `Rights.require` does,
        `RepositoryUnknown` if there is no such tenant, `DiskFull`.
        """
        upload = await self._new(principal, repository)
        await self._blobs.create_upload(upload.upload_id)
        return replace(upload, upload_id=self._names.name(upload))

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
            began = await self._settling.spare(digest)
            size = await self._blobs.commit(upload.upload_id, digest)
        except BaseException:
            await self._settling.end([upload.upload_id])
            raise
        return await self._settling.settle(upload, digest, size, principal, began, is_session=False)

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
        if offset is None:
            offset = await self._blobs.upload_size(upload.upload_id)
        metered = self._hooks.meter.metered(upload, offset, chunks, declared, digest)
        try:
            return await self._blobs.append(upload.upload_id, offset, metered, algorithm)
        except QuotaExceeded:
            await self._settling.end([upload.upload_id])
            raise

    async def size(self, principal: Principal, repository: str, upload_id: str) -> int:
        return await self._size_of(await self._find(principal, repository, upload_id))

    async def _size_of(self, upload: Upload) -> int:
        try:
            return await self._blobs.upload_size(upload.upload_id)
        except UploadUnknown:
            finished = await self._finished(upload)
            if finished is None:
                raise
            return finished.size

    async def finish(self, principal: Principal, repository: str, upload_id: str, digest: Digest) -> Pushed:
        """Publish what was appended. Repeating it after success is harmless.

        Raises `DigestMismatch`; the session is over then (distribution specification: a 4xx other than 416 ends it).
        """
        upload = await self._find(principal, repository, upload_id)
        try:
            return await self._finish(principal, upload, digest)
        except UploadUnknown:
            finished = await self._finished(upload)
            if finished is None or finished.digest != digest:
                raise
            return Pushed(repository, digest, finished.size)

    async def _finish(self, principal: Principal, upload: Upload, digest: Digest) -> Pushed:
        began = await self._settling.spare(digest)
        try:
            size = await self._blobs.commit(upload.upload_id, digest)
        except DigestMismatch:
            await self._settling.end([upload.upload_id])
            raise
        return await self._settling.settle(upload, digest, size, principal, began, is_session=True)

    async def cancel(self, principal: Principal, repository: str, upload_id: str) -> None:
        upload = await self._find(principal, repository, upload_id)
        await self._size_of(upload)
        await self._settling.end([upload.upload_id])

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
            if await blob_lives.revive(unit.connection, digest) != size or self._settling.is_late(began):
                return None
            held = await ensure_repository(unit, self._hooks, repository, tenant_id, principal)
            await self._settling.link(unit, held, digest, size, principal)
        return Pushed(repository, digest, size)

    async def source_of(self, principal: Principal, digest: Digest) -> str | None:
        """A repository that it may pull the blob from, with the token that it came with."""
        visible = await self._rights.visible(principal)
        async with self._database.reading() as connection:
            names = await repository_store.repositories_with_blob(
                connection, digest, visible, self._clock.now(), limit=1
            )
        return names[0] if names else None

    async def expire(self, lifetime: timedelta = UPLOAD_LIFETIME) -> int:
        """For a periodic job: forget sessions that nobody touched for `lifetime`; returns how many. Finished ones go
        as well.
        """
        older_than = self._clock.now() - lifetime
        stale = [each.upload_id for each in await self._blobs.pending_uploads(older_than)]
        for start in range(0, len(stale), _EXPIRY_BATCH):
            await self._settling.end(stale[start : start + _EXPIRY_BATCH])
        expired = set(stale)
        after = ""
        while batch := await self._rows_before(older_than, after):
            after = batch[-1]
            gone = [upload_id for upload_id in batch if not await self._is_pending(upload_id)]
            await self._settling.end(gone)
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

    async def _find(self, principal: Principal, repository: str, name: str) -> Upload:
        """Whose name it is. Whether there is such an upload is seen when it is used."""
        await self._rights.require(principal, repository, PUSH)
        tenant_id = await tenant_id_of(self._tenants, repository)
        upload = self._names.upload(name, repository, tenant_id, principal.user_id or "")
        if upload is None or principal.user_id is None:
            raise _unknown(name)
        return upload

    async def _finished(self, upload: Upload) -> Upload | None:
        async with self._database.reading() as connection:
            return await upload_store.find_upload(connection, upload.upload_id)

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
            name = await self.source_of(each, digest)
            if name is not None and each is principal:
                return name
            if name is not None:
                raise ScopeInsufficient(
                    f"the token is not for {PULL} on {name}", action="ask for a token with this scope", source=name
                )
        return None


def _unknown(upload_id: str) -> UploadUnknown:
    return UploadUnknown(f"there is no upload {upload_id[:64]!r}", action="start a new upload")
