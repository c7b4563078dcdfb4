"""Manifests and tags: pushing, pulling, listing and deleting images of one repository."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from common.clock import Clock
from common.digest import Digest
from common.reference import TagInvalid, check_tag
from control_plane.database import Database, UnitOfWork
from control_plane.registry import manifest_store, repository_store
from control_plane.registry.access import unknown_repository
from control_plane.registry.collaborators import TenantDirectory, tenant_id_of
from control_plane.registry.completeness import Incomplete, check_complete
from control_plane.registry.failures import ManifestUnknown
from control_plane.registry.index_size_store import resize_indexes
from control_plane.registry.manifests import ParsedManifest, parse_manifest
from control_plane.registry.messages import ImagePushed, ManifestDeleted, TagMoved
from control_plane.registry.model import Manifest, Repository
from control_plane.registry.participants import Hooks
from control_plane.registry.recent import Recent
from control_plane.registry.repositories import ensure_repository
from control_plane.registry.rights import Rights
from control_plane.registry.scopes import DELETE, PULL, PUSH
from control_plane.tenants.access import Principal

# Manifests of a few KB: tens of thousands fit.
_RECENT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class PushedManifest:
    manifest: Manifest
    tags: tuple[str, ...]
    subject: Digest | None


class ImageService:
    def __init__(
        self,
        database: Database,
        tenants: TenantDirectory,
        clock: Clock,
        hooks: Hooks,
        rights: Rights,
        incomplete: Incomplete,
        *,
        alone: bool = False,
    ) -> None:
        """`alone`: no other process moves tags, so that what a tag means may be remembered. Replicas ask the database
        each time: a host that pulls a tag from one, pushed a moment ago to another, must not get what it meant before.
        """
        self._database = database
        self._tenants = tenants
        self._clock = clock
        self._hooks = hooks
        self._rights = rights
        self._incomplete = incomplete
        self._recent: Recent[tuple[str, Digest], Manifest] = Recent(clock, _RECENT_BYTES)
        self._tagged: Recent[tuple[str, str], Manifest] = Recent(clock, _RECENT_BYTES if alone else 0)

    async def push(
        self,
        principal: Principal,
        repository: str,
        payload: bytes,
        content_type: str | None,
        *,
        digest: Digest | None = None,
        tags: Sequence[str] = (),
        incomplete: Incomplete | None = None,
    ) -> PushedManifest:
        """Store a manifest and point tags at it. `digest` is what the client named it by, if it did. `incomplete`: what
        may be missing of it, if not what is set for all.

        Raises what `Rights.require` does, `ManifestInvalid`, `ManifestTooLarge`, `TagInvalid`, `DigestMismatch`,
        `ContentMissing`, `SizeInvalid`, `RepositoryUnknown`. A failed push changes nothing.
        """
        await self._rights.require(principal, repository, PUSH)
        await self._hooks.upstreams.check_push(principal, repository)
        taken = incomplete or self._incomplete
        names = tuple(dict.fromkeys(map(check_tag, tags)))
        parsed = parse_manifest(payload, content_type)
        actual = Digest.of(payload, digest.algorithm if digest else "sha256")
        if digest is not None:
            digest.verify(actual)
        manifest = Manifest(actual, parsed.media_type, payload)
        done = PushedManifest(manifest, names, parsed.subject.digest if parsed.subject else None)
        async with self._database.transaction() as unit:
            held = await repository_store.hold_repository(unit.connection, repository, alone=False)
            if held is not None:
                await self._record(unit, held, manifest, parsed, names, principal, taken)
                return done
        # The first push to a repository, of a manifest that needs no blobs here (or is about to be refused).
        tenant_id = await tenant_id_of(self._tenants, repository)
        async with self._database.transaction() as unit:
            held = await ensure_repository(unit, self._hooks, repository, tenant_id, principal)
            await self._record(unit, held, manifest, parsed, names, principal, taken)
        return done

    async def _record(
        self,
        unit: UnitOfWork,
        held: Repository,
        manifest: Manifest,
        parsed: ParsedManifest,
        names: Sequence[str],
        by: Principal,
        incomplete: Incomplete,
    ) -> None:
        total_size = await check_complete(unit.connection, held.repository_id, parsed, incomplete)
        now = self._clock.now()
        user_id = by.user_id or ""
        is_new = await manifest_store.add_manifest(
            unit.connection, held.repository_id, manifest, parsed, total_size=total_size, user_id=user_id, now=now
        )
        if is_new:
            await resize_indexes(unit.connection, held.repository_id, manifest.digest)
            for participant in self._hooks.participants:
                await participant.manifest_added(unit, held, manifest, parsed, by)
        # Sorted: two pushes that lock the same rows in another order would wait for each other.
        for name in sorted(names):
            before = await manifest_store.hold_tag(unit.connection, held.repository_id, name)
            if before == manifest.digest:
                continue
            for participant in self._hooks.participants:
                await participant.tag_changing(unit, held, name, before, manifest.digest, by)
            await manifest_store.set_tag(unit.connection, held.repository_id, name, manifest.digest, now)
            self._forget_tag(unit, held.name, name)
            await unit.announce(_pushed(held, manifest, name, by))
            if before is not None:
                moved = TagMoved(held.tenant_id, held.name, name, str(before), str(manifest.digest), by.name)
                await unit.announce(moved)
        if is_new and not names:
            await unit.announce(_pushed(held, manifest, None, by))

    async def find(self, principal: Principal, repository: str, reference: str | Digest) -> Manifest:
        """`reference` is a tag or a digest. Raises what `Rights.require` does, `RepositoryUnknown`,
        `ManifestUnknown`.
        """
        await self._rights.require(principal, repository, PULL)
        found = await self.get(repository, reference)
        await self._hooks.gate.admit(principal, repository, found)
        return found

    def note_pull(self, principal: Principal, repository: str, manifest: Manifest) -> None:
        """The manifest was handed out, not only looked at."""
        for participant in self._hooks.participants:
            participant.pulled(repository, manifest, principal)

    async def get(self, repository: str, reference: str | Digest) -> Manifest:
        """Like `find` for a caller that made the check."""
        if isinstance(reference, Digest):
            found = await self._by_digest(repository, reference)
            if found is None and await self._hooks.upstreams.fetch_manifest(repository, reference):
                found = await self._by_digest(repository, reference)
        else:
            found = await self._by_tag(repository, reference)
        if found is not None:
            return found
        async with self._database.reading() as connection:
            if await repository_store.find_repository(connection, repository) is None:
                raise unknown_repository(repository)
        raise _unknown_manifest(repository, reference)

    async def _by_digest(self, repository: str, digest: Digest) -> Manifest | None:
        key = (repository, digest)
        known = self._recent.get(key)
        if known is not None:
            return known
        begun = self._recent.begin()
        async with self._database.reading() as connection:
            found = await manifest_store.find_by_digest(connection, repository, digest)
        if found is not None:
            self._recent.keep(key, found, begun, len(found.payload))
        return found

    async def _by_tag(self, repository: str, tag: str) -> Manifest | None:
        if not _can_exist(tag):
            return None
        await self._hooks.upstreams.refresh_tag(repository, tag)
        known = self._tagged.get((repository, tag))
        if known is not None:
            return known
        begun = self._tagged.begin()
        async with self._database.reading() as connection:
            found = await manifest_store.find_by_tag(connection, repository, tag)
        if found is not None:
            self._tagged.keep((repository, tag), found, begun, len(found.payload))
        return found

    def _forget_tag(self, unit: UnitOfWork, repository: str, tag: str) -> None:
        async def forget() -> None:
            self._tagged.forget((repository, tag))

        unit.after_commit(forget)

    async def tag_names(self, principal: Principal, repository: str, after: str, limit: int) -> list[str]:
        """In byte order, from the one after `after`; of a mirror with those that nobody pulled yet. Raises what
        `Rights.require` does, `RepositoryUnknown`.
        """
        await self._rights.require(principal, repository, PULL)
        upstream = await self._hooks.upstreams.tag_names(repository)
        async with self._database.reading() as connection:
            found = await repository_store.find_repository(connection, repository)
            if found is None:
                if not upstream:
                    raise unknown_repository(repository)
                return _page_of(upstream, after, limit)
            here = await manifest_store.tag_names(connection, found.repository_id, after, limit)
        return sorted({*here, *_page_of(upstream, after, limit)})[:limit] if upstream else here

    async def delete_tag(self, principal: Principal, repository: str, tag: str) -> None:
        """The manifest stays, and can be pulled by its digest. Raises `ManifestUnknown` if there is no such tag."""
        await self._rights.require(principal, repository, DELETE)
        async with self._database.transaction() as unit:
            held = await self._held(unit, repository)
            before = (
                await manifest_store.hold_tag(unit.connection, held.repository_id, tag) if _can_exist(tag) else None
            )
            if before is None:
                raise _unknown_manifest(repository, tag)
            for participant in self._hooks.participants:
                await participant.tag_changing(unit, held, tag, before, None, principal)
            await manifest_store.delete_tag(unit.connection, held.repository_id, tag)
            self._forget_tag(unit, held.name, tag)
            await unit.announce(TagMoved(held.tenant_id, held.name, tag, str(before), None, principal.name))

    async def delete_manifest(self, principal: Principal, repository: str, digest: Digest) -> None:
        """With every tag that names it; its blobs stay linked. Raises `ManifestUnknown`."""
        await self._rights.require(principal, repository, DELETE)
        async with self._database.transaction() as unit:
            await self._remove(unit, await self._held(unit, repository), digest, principal)
        self._recent.forget((repository, digest))

    async def remove_manifest(
        self, unit: UnitOfWork, held: Repository, digest: Digest, by: Principal | None = None
    ) -> None:
        """For who holds the repository alone and has made the check. Raises `ManifestUnknown`, and whatever a
        participant refuses it with.
        """
        await self._remove(unit, held, digest, by)

        async def forget() -> None:
            self._recent.forget((held.name, digest))

        unit.after_commit(forget)

    async def restore_manifest(
        self, unit: UnitOfWork, held: Repository, manifest: Manifest, tags: Sequence[str], by: Principal
    ) -> None:
        """For who kept a deleted manifest, holds the repository alone and has checked the right: like a push of it.
        Raises `ContentMissing`, and whatever a participant refuses it with.
        """
        parsed = parse_manifest(manifest.payload, manifest.media_type)
        await self._record(unit, held, manifest, parsed, tags, by, self._incomplete)

    async def _remove(self, unit: UnitOfWork, held: Repository, digest: Digest, by: Principal | None) -> None:
        if not await manifest_store.held_manifests(unit.connection, held.repository_id, [digest]):
            raise _unknown_manifest(held.name, digest)
        tags = await manifest_store.tags_naming(unit.connection, held.repository_id, digest)
        for participant in self._hooks.participants:
            for tag in tags:
                await participant.tag_changing(unit, held, tag, digest, None, by)
            await participant.manifest_removing(unit, held, digest, tags, by)
        await manifest_store.delete_tags_of(unit.connection, held.repository_id, digest)
        name = by.name if by is not None else ""
        for tag in tags:
            self._forget_tag(unit, held.name, tag)
            await unit.announce(TagMoved(held.tenant_id, held.name, tag, str(digest), None, name))
        await manifest_store.delete_manifest(unit.connection, held.repository_id, digest)
        await resize_indexes(unit.connection, held.repository_id, digest)
        await unit.announce(ManifestDeleted(held.tenant_id, held.name, str(digest), name))

    async def _held(self, unit: UnitOfWork, repository: str) -> Repository:
        held = await repository_store.hold_repository(unit.connection, repository, alone=True)
        if held is None:
            raise unknown_repository(repository)
        return held


def _page_of(names: Sequence[str], after: str, limit: int) -> list[str]:
    start = bisect_right(names, after)
    return list(names[start : start + limit])


def _can_exist(tag: str) -> bool:
    """A tag that cannot exist does not exist: clients probe with names like ".INVALID"."""
    try:
        check_tag(tag)
    except TagInvalid:
        return False
    return True


def _pushed(held: Repository, manifest: Manifest, tag: str | None, by: Principal) -> ImagePushed:
    return ImagePushed(held.tenant_id, held.name, str(manifest.digest), manifest.media_type, tag, by.name)


def _unknown_manifest(repository: str, reference: str | Digest) -> ManifestUnknown:
    return ManifestUnknown(
        f"{repository} has no manifest {str(reference)[:160]}", action="check the tag or digest", repository=repository
    )
