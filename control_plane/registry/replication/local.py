"""What is here, as replication reads it: by itself, for the rule's owner was checked when the rule was made."""

from __future__ import annotations

from collections.abc import AsyncIterator

from common.digest import Digest
from control_plane.database import Database
from control_plane.registry import manifest_store, repository_store
from control_plane.registry.model import Manifest
from control_plane.registry.referrer_store import page_of_referrers
from control_plane.registry.replication import local_store

_PAGE = 500
_ANNOTATION_BYTES = 4 << 20


class LocalImages:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def repositories(self, tenant_id: str) -> AsyncIterator[str]:
        """Names of the tenant's repositories, of all for the platform, in order."""
        after = ""
        while True:
            async with self._database.reading() as connection:
                names = await local_store.repository_names(connection, tenant_id, after, _PAGE)
            for name in names:
                yield name
            if len(names) < _PAGE:
                return
            after = names[-1]

    async def tags(self, repository: str) -> AsyncIterator[str]:
        after = ""
        while True:
            async with self._database.reading() as connection:
                held = await repository_store.find_repository(connection, repository)
                if held is None:
                    return
                names = await manifest_store.tag_names(connection, held.repository_id, after, _PAGE)
            for name in names:
                yield name
            if len(names) < _PAGE:
                return
            after = names[-1]

    async def manifest(self, repository: str, reference: str | Digest) -> Manifest | None:
        async with self._database.reading() as connection:
            if isinstance(reference, Digest):
                return await manifest_store.find_by_digest(connection, repository, reference)
            return await manifest_store.find_by_tag(connection, repository, reference)

    async def referrers(self, repository: str, subject: Digest) -> list[Digest]:
        found: list[Digest] = []
        more, after = True, ""
        while more:
            async with self._database.reading() as connection:
                page, more = await page_of_referrers(
                    connection,
                    repository,
                    subject,
                    artifact_type=None,
                    after=after,
                    limit=_PAGE,
                    max_bytes=_ANNOTATION_BYTES,
                )
            found += [each.digest for each in page]
            after = str(page[-1].digest) if page else after
        return found

    async def blob_size(self, repository: str, digest: Digest) -> int | None:
        async with self._database.reading() as connection:
            return await repository_store.linked_blob_size(connection, repository, digest)

    async def owner_of(self, repository: str) -> str | None:
        """The id of the tenant that the repository belongs to."""
        async with self._database.reading() as connection:
            held = await repository_store.find_repository(connection, repository)
        return None if held is None else held.tenant_id
