"""Reading blobs through a repository's links, and contents by digest for other domains."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from common.clock import Clock
from common.digest import Digest
from control_plane.blobs import BlobReader, BlobStore, FileBacked, FilePiece
from control_plane.database import Database
from control_plane.registry import manifest_store, repository_store
from control_plane.registry.access import unknown_repository
from control_plane.registry.failures import BlobInUse, BlobUnknown
from control_plane.registry.model import OCTETS, Content, Manifest
from control_plane.registry.participants import Hooks, Incoming
from control_plane.registry.recent import Recent
from control_plane.registry.rights import Rights
from control_plane.registry.scopes import DELETE, PULL, PUSH
from control_plane.tenants.access import ANONYMOUS, Principal

_RECENT_LINKS = 50_000


class ContentService:
    def __init__(self, database: Database, blobs: BlobStore, clock: Clock, hooks: Hooks, rights: Rights) -> None:
        self._database = database
        self._blobs = blobs
        self._hooks = hooks
        self._rights = rights
        # That a repository links a blob of a size: one look-up for the many ranges of one pull.
        self._links: Recent[tuple[str, Digest], int] = Recent(clock, _RECENT_LINKS)

    async def blob_size(self, principal: Principal, repository: str, digest: Digest) -> int:
        """The recorded size. Raises what `Rights.require` does, `RepositoryUnknown`, `BlobUnknown`."""
        await self._rights.require(principal, repository, PULL)
        key = (repository, digest)
        known = self._links.get(key)
        return await self._linked_size(repository, digest) if known is None else known

    async def _linked_size(self, repository: str, digest: Digest) -> int:
        begun = self._links.begin()
        async with self._database.reading() as connection:
            size = await repository_store.linked_blob_size(connection, repository, digest)
            if size is None and await repository_store.find_repository(connection, repository) is None:
                raise unknown_repository(repository)
        if size is None:
            raise _unknown_blob(repository, digest)
        self._links.keep((repository, digest), size, begun)
        return size

    async def present_blob_size(self, principal: Principal, repository: str, digest: Digest) -> int:
        """Like `blob_size`, but a blob whose bytes are damaged or gone is `BlobUnknown` too: a client that asks before
        pushing then pushes it, which repairs it. To who may push, the answer is a promise: the link stays until the
        manifest that needs it can be pushed.
        """
        if await self._rights.may(principal, repository, PUSH):
            size = await self._promised_size(principal, repository, digest)
        else:
            size = await self.blob_size(principal, repository, digest)
        if await self._blobs.stat(digest) != size:
            raise _unknown_blob(repository, digest)
        return size

    async def _promised_size(self, principal: Principal, repository: str, digest: Digest) -> int:
        await self._rights.require(principal, repository, PULL)
        if await self._hooks.keeper.is_leaving(repository, digest):
            async with self._database.transaction() as unit:
                held = await repository_store.hold_repository(unit.connection, repository, alone=False)
                size = await repository_store.linked_blob_size(unit.connection, repository, digest)
                if held is not None and size is not None:
                    for participant in self._hooks.participants:
                        await participant.blob_relied_on(unit, held, digest, principal)
        # Read after the keeper was asked, and not from memory: a link that ended meanwhile is not promised.
        return await self._linked_size(repository, digest)

    async def linked(
        self, principal: Principal, repository: str, digests: Sequence[Digest]
    ) -> tuple[str, Mapping[Digest, int]]:
        """Whose the repository is (tenant id), and the sizes of those of `digests` that it links. Raises what
        `Rights.require` does, and `RepositoryUnknown`.
        """
        await self._rights.require(principal, repository, PULL)
        async with self._database.reading() as connection:
            found = await repository_store.find_repository(connection, repository)
            if found is None:
                raise unknown_repository(repository)
            return found.tenant_id, await repository_store.linked_sizes(connection, found.repository_id, digests)

    async def owners(self, digests: Sequence[Digest]) -> Collection[tuple[str, Digest]]:
        """(tenant id, digest) of those that a repository of the tenant holds, as a blob or as a manifest."""
        async with self._database.reading() as connection:
            return await repository_store.owners_of(connection, digests)

    async def public(self, repository: str) -> bool:
        """Whether everybody may pull it."""
        return await self._rights.may(ANONYMOUS, repository, PULL)

    @contextlib.asynccontextmanager
    async def incoming(self, principal: Principal, repository: str, digest: Digest) -> AsyncIterator[Incoming | None]:
        """A blob that `blob_size` does not know, on its way here from upstream; None if there is none, or if it has
        come meanwhile.
        """
        await self._rights.require(principal, repository, PULL)
        async with self._hooks.upstreams.blob(repository, digest) as incoming:
            yield incoming

    async def upstream_blob_size(self, principal: Principal, repository: str, digest: Digest) -> int | None:
        """Of a blob that is not here and could be fetched."""
        await self._rights.require(principal, repository, PULL)
        return await self._hooks.upstreams.blob_size(repository, digest)

    def open_blob(self, digest: Digest, size: int) -> AbstractAsyncContextManager[BlobReader]:
        """After `blob_size` gave the right and the size. Entering raises `BlobDamaged`, `BlobMissing`."""
        return self._blobs.open(digest, size)

    async def local_path(self, digest: Digest, size: int) -> Path | None:
        return await self._blobs.local_path(digest, size)

    async def address(self, digest: Digest, size: int, valid_seconds: int) -> str | None:
        """Where the client may fetch the blob itself, for so long; None where the store has no such addresses."""
        return await self._blobs.presigned_url(digest, size, expires_seconds=valid_seconds)

    async def unlink_blob(self, principal: Principal, repository: str, digest: Digest) -> None:
        """Take the blob out of the repository; its bytes stay until nobody links them.

        Raises `BlobInUse` while a manifest of the repository needs it, `BlobUnknown`, `RepositoryUnknown`.
        """
        await self._rights.require(principal, repository, DELETE)
        async with self._database.transaction() as unit:
            held = await repository_store.hold_repository(unit.connection, repository, alone=True)
            if held is None:
                raise unknown_repository(repository)
            # An entry of an index that is no manifest to us is there as a blob, and recorded as a "manifest".
            for kind in ("blob", "manifest"):
                users = await manifest_store.users_of(unit.connection, held.repository_id, digest, kind)
                if not users:
                    continue
                raise BlobInUse(
                    f"manifest {users[0]} of {repository} needs {digest}", action="delete the manifests that need it"
                )
            size = await repository_store.linked_blob_size(unit.connection, repository, digest)
            if size is None or not await repository_store.unlink_blob(unit.connection, held.repository_id, digest):
                raise _unknown_blob(repository, digest)
            for participant in self._hooks.participants:
                await participant.blob_unlinked(unit, held, digest, size)
        self._links.forget((repository, digest))

    async def content(self, digest: Digest) -> Content:
        """A blob or a manifest, whoever holds it: the caller has checked that it may be read.

        Raises `BlobUnknown`, and of its bytes `BlobMissing`, `BlobDamaged`.
        """
        async with self._database.reading() as connection:
            size = await repository_store.blob_size(connection, digest)
            manifest = await manifest_store.find_anywhere(connection, digest) if size is None else None
        if size is None and manifest is None:
            # Deleted a while ago, and an instance may still be told to run it.
            manifest = await self._hooks.keeper.former_manifest(digest)
        if manifest is not None:
            return _manifest_content(manifest)
        if size is None:
            raise BlobUnknown(f"there is no content {digest}", action="check the digest", digest=str(digest))
        return self._blob_content(digest, size, await self._blobs.local_path(digest, size))

    def _blob_content(self, digest: Digest, size: int, path: Path | None) -> Content:
        async def read(start: int, end: int) -> AsyncGenerator[bytes, None]:
            async with self._blobs.open(digest, size) as reader:
                async for piece in reader.read(start, end):
                    yield piece

        async def pieces(start: int, end: int) -> AsyncGenerator[bytes | FilePiece, None]:
            async with self._blobs.open(digest, size) as reader:
                source = reader.file_pieces if isinstance(reader, FileBacked) else reader.read
                async for piece in source(start, end):
                    yield piece

        return Content(digest, size, OCTETS, read, path, pieces)


def _manifest_content(manifest: Manifest) -> Content:
    async def read(start: int, end: int) -> AsyncGenerator[bytes, None]:
        yield manifest.payload[start:end]

    return Content(manifest.digest, len(manifest.payload), manifest.media_type, read)


def _unknown_blob(repository: str, digest: Digest) -> BlobUnknown:
    return BlobUnknown(f"{repository} has no blob {digest}", action="push it first", digest=str(digest))
