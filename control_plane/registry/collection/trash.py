"""Looking into the trash, taking something out of it again, and emptying it before its time.

What comes back comes like a push of what was here before: everybody who takes part in a push is asked (quota,
immutability), everything it refers to must be there, and it is as old as it was.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.digest import Digest
from common.reference import check_tag
from control_plane.database import Database, UnitOfWork
from control_plane.registry import blob_lives, manifest_store, repository_store
from control_plane.registry.access import unknown_repository
from control_plane.registry.collection import review_store, trash_store
from control_plane.registry.collection.model import Pace, Restored, TrashedManifest
from control_plane.registry.collection.trash_store import Kept
from control_plane.registry.failures import ManifestUnknown
from control_plane.registry.images import ImageService
from control_plane.registry.model import Repository
from control_plane.registry.participants import Hooks
from control_plane.registry.rights import Rights
from control_plane.registry.scopes import DELETE
from control_plane.tenants.access import Principal
from control_plane.web.paging import Page, PageRequest

# Nobody nests indexes deeper; digests cannot form a cycle.
_MAX_NESTING = 8
_MAX_RESTORED = 1000


class TrashService:
    def __init__(self, database: Database, images: ImageService, rights: Rights, hooks: Hooks, pace: Pace) -> None:
        self._database = database
        self._rights = rights
        self._images = images
        self._hooks = hooks
        self._pace = pace

    async def contents(self, principal: Principal, repository: str, page: PageRequest) -> Page[TrashedManifest]:
        """What can be undeleted, the latest deletions first. Raises what `Rights.require` does for deleting."""
        await self._rights.require(principal, repository, DELETE)
        async with self._database.reading() as connection:
            found = await repository_store.find_repository(connection, repository)
            if found is None:
                raise unknown_repository(repository)
            rows, total = await trash_store.page(connection, found.repository_id, repository, page.offset, page.limit)
        return Page(rows, total, page)

    async def undelete(self, principal: Principal, repository: str, reference: str) -> Restored:
        """Bring back a manifest by its digest, with the tags that went with it, or a tag with its manifest. The
        manifests of an index come with it. A tag that means something else by now is left alone, and named.

        Raises what `Rights.require` does for deleting, `ManifestUnknown` if it is not (or no longer) kept, and what a
        push raises: `QuotaExceeded`, `ContentMissing` if a blob was deleted by hand and collected since.
        """
        await self._rights.require(principal, repository, DELETE)
        async with self._database.transaction() as unit:
            found = await repository_store.find_repository(unit.connection, repository)
            if found is None:
                raise unknown_repository(repository)
            digest = await self._meant(unit, found, reference)
            kept = await self._with_children(unit, found, digest)
            # Blobs are held before the repository, as a push does.
            sizes = await self._revived(unit, kept)
            held = await repository_store.hold_repository(unit.connection, repository, alone=True)
            if held is None or held != found:
                raise unknown_repository(repository)
            if len(await self._with_children(unit, held, digest, hold=True)) < len(kept):
                raise _not_kept(repository, reference)  # purged while we waited
            await self._link_again(unit, held, sizes, principal)
            if not kept:
                return await self._undelete_tag(unit, held, digest, reference, principal)
            return await self._undelete_manifests(unit, held, kept, principal)

    async def _undelete_manifests(
        self, unit: UnitOfWork, held: Repository, kept: Sequence[Kept], by: Principal
    ) -> Restored:
        digests = [each.manifest.digest for each in kept]
        names = await trash_store.deleted_tags_of(unit.connection, held.repository_id, digests)
        every = sorted(name for mine in names.values() for name in mine)
        taken = await trash_store.live_tags(unit.connection, held.repository_id, every)
        for each in kept:
            mine = [name for name in names.get(each.manifest.digest, ()) if name not in taken]
            await self._images.restore_manifest(unit, held, each.manifest, mine, by)
            await trash_store.set_pushed(unit.connection, held.repository_id, each)
        await trash_store.forget_tags(unit.connection, held.repository_id, every)
        back = tuple(name for name in every if name not in taken)
        return Restored(held.name, tuple(reversed(digests)), back, tuple(sorted(taken)))

    async def _undelete_tag(
        self, unit: UnitOfWork, held: Repository, digest: Digest, reference: str, by: Principal
    ) -> Restored:
        """Its manifest was never deleted, or is back already."""
        manifest = await manifest_store.find_by_digest(unit.connection, held.name, digest)
        if manifest is None or ":" in reference:
            raise _not_kept(held.name, reference)
        await trash_store.forget_tags(unit.connection, held.repository_id, [reference])
        if await trash_store.live_tags(unit.connection, held.repository_id, [reference]):
            return Restored(held.name, (), (), (reference,))
        await self._images.restore_manifest(unit, held, manifest, [reference], by)
        return Restored(held.name, (), (reference,), ())

    async def purge(self, principal: Principal, repository: str, digest: Digest | None = None) -> int:
        """Give up one manifest of the trash, or all; returns how many. Their blobs' links end `Pace.settle` later, or
        when what clients were promised of them is over. Raises what `Rights.require` does for deleting.
        """
        await self._rights.require(principal, repository, DELETE)
        async with self._database.transaction() as unit:
            held = await repository_store.hold_repository(unit.connection, repository, alone=True)
            if held is None:
                raise unknown_repository(repository)
            keys = await trash_store.hold_all(unit.connection, held.repository_id)
            keys = [key for key in keys if digest is None or key[1] == digest]
            if digest is not None and not keys:
                raise _not_kept(repository, str(digest))
            needed = [each for key in keys for each in await trash_store.linked_needs(unit.connection, [key])]
            earliest = unit.clock.now() + self._pace.settle
            await review_store.hasten_links(unit.connection, held.repository_id, sorted(set(needed)), earliest)
            await trash_store.forget_manifests(unit.connection, keys)
        return len(keys)

    async def _meant(self, unit: UnitOfWork, found: Repository, reference: str) -> Digest:
        if ":" in reference:
            return Digest.parse(reference)
        digest = await trash_store.deleted_tag(unit.connection, found.repository_id, check_tag(reference))
        if digest is None:
            raise _not_kept(found.name, reference)
        return digest

    async def _with_children(
        self, unit: UnitOfWork, found: Repository, digest: Digest, *, hold: bool = False
    ) -> list[Kept]:
        """The manifest and those it refers to, as far as they are in the trash, each after what it refers to. `hold`
        keeps them there until the transaction ends.
        """
        order: dict[Digest, Kept] = {}
        seen: set[Digest] = set()

        async def visit(each: Digest, depth: int) -> None:
            if each in seen or depth > _MAX_NESTING or len(seen) > _MAX_RESTORED:
                return
            seen.add(each)
            kept = await trash_store.find(unit.connection, found.repository_id, each, hold=hold)
            if kept is not None:
                for child in kept.children:
                    await visit(child, depth + 1)
                order[each] = kept

        await visit(digest, 0)
        return list(order.values())

    async def _revived(self, unit: UnitOfWork, kept: list[Kept]) -> dict[Digest, int]:
        """The blobs they need that are still there, safe from deletion until this transaction ends."""
        needed = sorted({blob for each in kept for blob in each.blobs})
        sizes = {digest: await blob_lives.revive(unit.connection, digest) for digest in needed}
        return {digest: size for digest, size in sizes.items() if size is not None}

    async def _link_again(self, unit: UnitOfWork, held: Repository, sizes: dict[Digest, int], by: Principal) -> None:
        now = unit.clock.now()
        for digest, size in sizes.items():
            if await repository_store.link_blob(unit.connection, held.repository_id, digest, now):
                for participant in self._hooks.participants:
                    await participant.blob_linked(unit, held, digest, size, by)


def _not_kept(repository: str, reference: str) -> ManifestUnknown:
    return ManifestUnknown(
        f"nothing that was deleted from {repository} is kept as {reference[:160]}",
        action="list the trash; what was deleted is kept for a limited time",
        repository=repository,
    )
