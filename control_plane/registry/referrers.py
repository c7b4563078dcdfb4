"""What refers to a manifest: signatures, bills of materials, attestations (distribution specification, "Listing
Referrers"). The subject itself may be missing: artifacts may be pushed before it, and stay when it is deleted.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.digest import Digest
from common.errors import Denied
from control_plane.database import Database
from control_plane.registry.failures import RepositoryUnknown
from control_plane.registry.participants import Upstreams
from control_plane.registry.referrer_store import Referrer, page_of_referrers
from control_plane.registry.rights import Rights
from control_plane.registry.scopes import PULL
from control_plane.tenants.access import Principal

# A page is itself a manifest, which a client may refuse beyond 4 MiB; descriptors without annotations are small.
_MAX_ANNOTATION_BYTES = 3 << 20


@dataclass(frozen=True, slots=True)
class ReferrerPage:
    referrers: tuple[Referrer, ...]
    more: bool


class ReferrerService:
    def __init__(self, database: Database, rights: Rights, upstreams: Upstreams) -> None:
        self._database = database
        self._rights = rights
        self._upstreams = upstreams

    async def page(
        self,
        principal: Principal,
        repository: str,
        subject: Digest,
        *,
        artifact_type: str | None = None,
        after: str = "",
        limit: int,
    ) -> ReferrerPage:
        """In order of digest, from the one after `after`; empty for a subject or repository that nobody pushed to.

        Raises what `Rights.require` does, but `Denied` for what is not the principal's: clients take a 404 of this API
        for "not supported here" and then read and write a tag instead, which the specification therefore forbids.
        """
        try:
            await self._rights.require(principal, repository, PULL)
        except RepositoryUnknown as failure:
            raise Denied(f"{principal.name} may not pull from {repository}", action=failure.action) from failure
        await self._upstreams.bring_referrers(repository, subject)
        async with self._database.reading() as connection:
            found, more = await page_of_referrers(
                connection,
                repository,
                subject,
                artifact_type=artifact_type,
                after=after,
                limit=limit,
                max_bytes=_MAX_ANNOTATION_BYTES,
            )
        return ReferrerPage(tuple(found), more)
