"""The registry in the audit trail: a `Participant` that records every change in the transaction that makes it, and
notes pulls.

Invariant: nothing here touches the database by itself; changes are gathered and written with one statement right before
the commit, a pull is put into the trail's buffer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.digest import Digest
from control_plane.audit.model import Act
from control_plane.audit.service import AuditTrail
from control_plane.database import UnitOfWork
from control_plane.registry.manifests import ParsedManifest
from control_plane.registry.model import Manifest, Repository
from control_plane.registry.participants import Participant
from control_plane.tenants.access import Principal
from control_plane.tenants.acting import act_of


class RegistryAuditing(Participant):
    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

    async def repository_made(self, unit: UnitOfWork, repository: Repository, by: Principal | None) -> None:
        self._trail.record(unit, _act(by, "registry.repository_made", repository))

    async def repository_removed(self, unit: UnitOfWork, repository: Repository) -> None:
        self._trail.record(unit, _act(None, "registry.repository_removed", repository))

    async def blob_linked(
        self, unit: UnitOfWork, repository: Repository, digest: Digest, size: int, by: Principal | None
    ) -> None:
        """By an upload or a mount."""
        act = _act(by, "registry.link", repository, digest=digest, details={"size": size})
        self._trail.record(unit, act)

    async def blob_unlinked(self, unit: UnitOfWork, repository: Repository, digest: Digest, size: int) -> None:
        act = _act(None, "registry.unlink", repository, digest=digest, details={"size": size})
        self._trail.record(unit, act)

    async def manifest_added(
        self,
        unit: UnitOfWork,
        repository: Repository,
        manifest: Manifest,
        parsed: ParsedManifest,
        by: Principal | None,
    ) -> None:
        details = {"media_type": manifest.media_type, "size": len(manifest.payload)}
        act = _act(by, "registry.push", repository, digest=manifest.digest, details=details)
        self._trail.record(unit, act)

    async def manifest_removing(
        self, unit: UnitOfWork, repository: Repository, digest: Digest, tags: Sequence[str], by: Principal | None
    ) -> None:
        details = {"tags": list(tags[:50]), "tag_count": len(tags)}
        self._trail.record(unit, _act(by, "registry.delete", repository, digest=digest, details=details))

    async def tag_changing(
        self,
        unit: UnitOfWork,
        repository: Repository,
        tag: str,
        before: Digest | None,
        after: Digest | None,
        by: Principal | None,
    ) -> None:
        operation = "registry.tag" if after is not None else "registry.untag"
        details = {"before": str(before) if before is not None else None}
        self._trail.record(unit, _act(by, operation, repository, digest=after, tag=tag, details=details))

    def pulled(self, repository: str, manifest: Manifest, by: Principal) -> None:
        act = act_of(
            by,
            "registry.pull",
            tenant=repository.partition("/")[0],
            repository=repository,
            digest=str(manifest.digest),
        )
        self._trail.note_repeated(act)


def _act(
    by: Principal | None,
    operation: str,
    repository: Repository,
    *,
    digest: Digest | None = None,
    tag: str = "",
    details: Mapping[str, Any] | None = None,
) -> Act:
    named = str(digest) if digest is not None else ""
    return act_of(
        by, operation, tenant=repository.tenant, repository=repository.name, digest=named, tag=tag, details=details
    )
