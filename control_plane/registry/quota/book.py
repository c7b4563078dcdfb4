"""Keeping the accounts when the registry changes: quota as a participant.

Invariant: everything is read from the rows that the transaction itself writes or holds, so that what is given back is
what was charged, whoever gives it back.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.digest import Digest
from control_plane.database import UnitOfWork
from control_plane.registry.manifests import ParsedManifest
from control_plane.registry.model import Manifest, Repository
from control_plane.registry.participants import Participant
from control_plane.registry.quota import store
from control_plane.registry.quota.ledger import Ledger
from control_plane.registry.quota.model import Change
from control_plane.tenants.access import Principal


class QuotaBook(Participant):
    """Put it before participants that record: it refuses."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def repository_made(self, unit: UnitOfWork, repository: Repository, by: Principal | None) -> None:
        maker = await store.maker_of(unit.connection, repository.repository_id)
        self._change(unit, repository, maker, Change(images=1))

    async def repository_removed(self, unit: UnitOfWork, repository: Repository) -> None:
        maker = await store.maker_of(unit.connection, repository.repository_id)
        self._change(unit, repository, maker, Change(images=-1))
        # Manifests that are still there go with it, unannounced.
        for user_id, size in await store.payloads_in(unit.connection, repository.repository_id):
            self._change(unit, repository, user_id, Change(used_bytes=-size))

    async def blob_linked(
        self, unit: UnitOfWork, repository: Repository, digest: Digest, size: int, by: Principal | None
    ) -> None:
        user_id = (by.user_id if by is not None else None) or ""
        if await store.charge(unit.connection, repository.tenant_id, digest, user_id, size):
            self._change(unit, repository, user_id, Change(used_bytes=size))

    async def blob_unlinked(self, unit: UnitOfWork, repository: Repository, digest: Digest, size: int) -> None:
        freed = await store.discharge(unit.connection, repository.tenant_id, digest)
        if freed is not None:
            user_id, charged = freed
            self._change(unit, repository, user_id, Change(used_bytes=-charged))

    async def manifest_added(
        self,
        unit: UnitOfWork,
        repository: Repository,
        manifest: Manifest,
        parsed: ParsedManifest,
        by: Principal | None,
    ) -> None:
        user_id, size, image = await store.manifest_facts(unit.connection, repository.repository_id, manifest.digest)
        # The images of an index were looked at one by one; it is not one of them.
        largest = 0 if parsed.is_index else image
        self._change(unit, repository, user_id, Change(used_bytes=size, largest_image=largest))

    async def manifest_removing(
        self, unit: UnitOfWork, repository: Repository, digest: Digest, tags: Sequence[str], by: Principal | None
    ) -> None:
        user_id, size, _ = await store.manifest_facts(unit.connection, repository.repository_id, digest)
        self._change(unit, repository, user_id, Change(used_bytes=-size))

    def _change(self, unit: UnitOfWork, repository: Repository, user_id: str, change: Change) -> None:
        self._ledger.changes(unit).add(repository.tenant, repository.tenant_id, user_id, change)
