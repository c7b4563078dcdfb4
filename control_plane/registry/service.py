"""The registry as other domains see it, and the one thing that `app` constructs.

`resolve`, `content` and `repositories` make no permission check: the caller has made its own. `uploads`, `images` and
`contents` are the use cases of `/v2/`, which check on every call.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

from common.clock import Clock
from common.digest import Digest
from common.reference import Reference
from control_plane.blobs import BlobStore
from control_plane.database import Database, UnitOfWork
from control_plane.registry import manifest_store, repository_store
from control_plane.registry.access import unknown_repository
from control_plane.registry.collaborators import TenantDirectory
from control_plane.registry.completeness import Incomplete
from control_plane.registry.contents import ContentService
from control_plane.registry.failures import ManifestUnknown
from control_plane.registry.grants import Filter, Visible
from control_plane.registry.images import ImageService
from control_plane.registry.manifests import ParsedManifest, parse_manifest
from control_plane.registry.model import Content, Manifest, Repository, RepositoryContents, ResolvedImage
from control_plane.registry.participants import Hooks
from control_plane.registry.referrers import ReferrerService
from control_plane.registry.repositories import remove_repository
from control_plane.registry.rights import Forgetting, Rights
from control_plane.registry.upload_names import UploadNames
from control_plane.registry.uploads import UploadService
from control_plane.tenants.access import ANONYMOUS, Principal
from control_plane.web.paging import Page, PageRequest

# An index may hold indexes; nobody nests deeper, and digests cannot form a cycle.
_MAX_NESTING = 4


class RegistryService:
    """`hooks`: what else must hold or be recorded when the registry changes; without, nothing else does. `rights` is
    the check that every use of a repository goes through. `incomplete`: which manifests are taken without all of their
    contents. `alone`: this is the only process that changes it. `names` is shared by all that do.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        tenants: TenantDirectory,
        clock: Clock,
        hooks: Hooks | None = None,
        incomplete: Incomplete = Incomplete.INDEXES,
        *,
        alone: bool = False,
        names: UploadNames | None = None,
    ) -> None:
        hooks = hooks or Hooks()
        names = names or UploadNames([secrets.token_bytes(32)])
        self._database = database
        self._hooks = hooks
        self._clock = clock
        self.rights = Rights(database, tenants, clock)
        hooks = replace(hooks, participants=(*hooks.participants, Forgetting(self.rights)))
        self.uploads = UploadService(database, blobs, tenants, clock, hooks, self.rights, names)
        self.images = ImageService(database, tenants, clock, hooks, self.rights, incomplete, alone=alone)
        self.referrers = ReferrerService(database, self.rights, hooks.upstreams)
        self.contents = ContentService(database, blobs, clock, hooks, self.rights)

    async def resolve(
        self, reference: Reference, architecture: str = "amd64", operating_system: str = "linux"
    ) -> ResolvedImage:
        """What to fetch for a reference on a platform. With tag and digest the digest decides.

        Raises `RepositoryUnknown`, or `ManifestUnknown` also if an index has no image for the platform, or names one
        that is not here; and what the pull gate refuses an image with, whoever asks.
        """
        # In this order: the first pull makes a repository that is a mirror.
        manifest = await self.images.get(reference.repository, reference.digest or reference.tag or "latest")
        async with self._database.reading() as connection:
            repository = await repository_store.find_repository(connection, reference.repository)
        if repository is None:
            raise unknown_repository(reference.repository)
        for _ in range(_MAX_NESTING):
            parsed = _parsed(manifest)
            if not parsed.is_index:
                # Nobody's rights open the gate here: it is a host that will run the image.
                await self._hooks.gate.admit(ANONYMOUS, repository.name, manifest)
                await self._hold_contents(repository, reference, parsed)
                return _resolved(repository, reference, manifest, parsed)
            child = parsed.child_for(architecture, operating_system)
            if child is None:
                break
            manifest = await self._child(repository.name, reference, child.digest, f"{operating_system}/{architecture}")
        raise ManifestUnknown(
            f"{reference} has no image for {operating_system}/{architecture}",
            action="push an image for this platform, or run it on hosts of another one",
        )

    async def _hold_contents(self, repository: Repository, reference: Reference, parsed: ParsedManifest) -> None:
        """Hosts read contents by digest alone, on our word: so only what the repository itself holds is named to them,
        for a manifest may name what is somebody else's. A mirror fetches what is missing.
        """
        wanted = [descriptor.digest for descriptor in parsed.blobs]
        missing = await self._missing(repository, wanted)
        if missing:
            await self._hooks.upstreams.bring(repository.name, missing)
            missing = await self._missing(repository, missing)
        if missing:
            raise ManifestUnknown(
                f"{reference} needs {len(missing)} contents that {repository.name} does not hold: {missing[0]}",
                action="push them into this repository",
                repository=repository.name,
            )

    async def _missing(self, repository: Repository, wanted: Sequence[Digest]) -> Sequence[Digest]:
        async with self._database.reading() as connection:
            held = await repository_store.linked_sizes(connection, repository.repository_id, wanted)
        return [digest for digest in wanted if digest not in held]

    async def _child(self, repository: str, reference: Reference, digest: Digest, platform: str) -> Manifest:
        try:
            return await self.images.get(repository, digest)
        except ManifestUnknown as failure:
            raise ManifestUnknown(
                f"{reference} names an image for {platform}, {digest}, but {repository} does not hold it",
                action="push that image into this repository, or the index without it",
                repository=repository,
            ) from failure

    async def content(self, digest: Digest) -> Content:
        """See `ContentService.content`."""
        return await self.contents.content(digest)

    async def large_contents(self, repository: str, manifest: Digest, smallest_bytes: int) -> list[Digest]:
        """Blobs of the image that the repository holds and that are no smaller; none of an index or of one that is
        gone.
        """
        async with self._database.reading() as connection:
            return await manifest_store.large_blobs(connection, repository, manifest, smallest_bytes)

    async def repositories(
        self, visible: Visible, page: PageRequest, wanted: Filter | None = None
    ) -> Page[RepositoryContents]:
        """Visible repositories with their tags, in order of name if nothing else is wanted."""
        async with self._database.reading() as connection:
            found, total = await repository_store.page_of_repositories(
                connection, visible, self._clock.now(), wanted or Filter(), page.offset, page.limit
            )
            ids = [each.repository.repository_id for each in found]
            tags = await manifest_store.tags_of(connection, ids)
            sizes = await repository_store.linked_bytes(connection, ids)
        rows = [
            RepositoryContents(
                each.repository.name,
                tuple(tags.get(each.repository.repository_id, ())),
                sizes.get(each.repository.repository_id, 0),
                each.visibility,
                each.created_at,
            )
            for each in found
        ]
        return Page(rows, total, page)

    async def tenant_in_use(self, unit: UnitOfWork, tenant_id: str) -> str | None:
        """For `tenants`, which asks before it deletes one: how many repositories have images, in words, or None. Blobs
        that no image needs do not keep a tenant: their links are removed in the same transaction, so that a later
        tenant of the same name does not find them.
        """
        count = await repository_store.count_with_images(unit.connection, tenant_id)
        if count:
            return f"{count} {'repository' if count == 1 else 'repositories'} with images"
        for repository in await repository_store.repositories_of(unit.connection, tenant_id):
            await remove_repository(unit, self._hooks, repository)
        return None

    async def catalogue(self, principal: Principal, after: str, limit: int) -> list[str]:
        """Names of the repositories that the principal may pull from, in order, from the one after `after`."""
        visible = await self.rights.visible(principal)
        async with self._database.reading() as connection:
            return await repository_store.repository_names(
                connection, visible, self._clock.now(), after=after, limit=limit
            )


def _parsed(manifest: Manifest) -> ParsedManifest:
    # What is stored was checked when it was pushed; its type may have come from the header alone.
    return parse_manifest(manifest.payload, manifest.media_type)


def _resolved(
    repository: Repository, reference: Reference, manifest: Manifest, parsed: ParsedManifest
) -> ResolvedImage:
    tag = None if reference.digest is not None else reference.tag
    return ResolvedImage(repository.name, repository.tenant_id, tag, manifest.descriptor, parsed.blobs)
