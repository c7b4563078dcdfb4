"""Deleting all images of a repository, as somebody does who is done with it.

They go to the trash like any deletion, by batches that each commit: what may not go (an immutable tag) stays and is
named, and the rest goes. A repository that is empty then grants nothing any more, and ends by itself once its trash is
over (`collection.ending`): so everything but what it granted can be undone until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.digest import Digest
from common.errors import Failure, Unavailable
from control_plane.audit.service import AuditTrail
from control_plane.database import Database
from control_plane.registry import grant_store, manifest_store, repository_store
from control_plane.registry.access import unknown_repository
from control_plane.registry.failures import ManifestUnknown
from control_plane.registry.grants import MANAGE, Visibility
from control_plane.registry.images import ImageService
from control_plane.registry.rights import Rights
from control_plane.tenants.access import Principal
from control_plane.tenants.acting import act_of

_BATCH = 20
_SECONDS = 15.0
_MOST_KEPT = 1000


@dataclass(frozen=True, slots=True)
class KeptImage:
    digest: Digest
    reason: str


@dataclass(frozen=True, slots=True)
class Emptied:
    """`finished`: every image was tried; else the time of a request was over, and asking again goes on."""

    removed: int
    kept: tuple[KeptImage, ...]
    finished: bool


class Emptying:
    def __init__(self, database: Database, images: ImageService, rights: Rights, trail: AuditTrail) -> None:
        self._database = database
        self._images = images
        self._rights = rights
        self._trail = trail

    async def empty(self, principal: Principal, repository: str, seconds: float = _SECONDS) -> Emptied:
        """Raises what `Rights.require` does for managing, `RepositoryUnknown`, `Unavailable`."""
        await self._rights.require(principal, repository, MANAGE)
        clock = self._database.clock
        until = clock.monotonic() + seconds
        removed, kept, after = 0, list[KeptImage](), ""
        while batch := await self._batch(repository, after):
            refused = await self._remove(principal, repository, batch)
            removed, after = removed + len(batch) - len(refused), str(batch[-1])
            kept += refused
            if clock.monotonic() >= until or len(kept) >= _MOST_KEPT:
                return Emptied(removed, tuple(kept), finished=False)
        if not kept:
            await self._grant_nothing(principal, repository)
        return Emptied(removed, tuple(kept), finished=True)

    async def _batch(self, repository: str, after: str) -> list[Digest]:
        async with self._database.reading() as connection:
            found = await repository_store.find_repository(connection, repository)
            if found is None:
                raise unknown_repository(repository)
            return await manifest_store.digests_in(connection, found.repository_id, after, _BATCH)

    async def _remove(self, by: Principal, repository: str, batch: Sequence[Digest]) -> list[KeptImage]:
        """Those that may not go. One that is refused does not keep the others of its batch."""
        try:
            await self._remove_together(by, repository, batch)
        except Unavailable:
            raise
        except Failure as failure:
            if len(batch) == 1:
                return [KeptImage(batch[0], failure.detail)]
            return [kept for digest in batch for kept in await self._remove(by, repository, [digest])]
        return []

    async def _remove_together(self, by: Principal, repository: str, batch: Sequence[Digest]) -> None:
        async with self._database.transaction() as unit:
            held = await repository_store.hold_repository(unit.connection, repository, alone=True)
            if held is None:
                raise unknown_repository(repository)
            for digest in batch:
                try:
                    await self._images.remove_manifest(unit, held, digest, by)
                except ManifestUnknown:
                    continue  # somebody else was faster

    async def _grant_nothing(self, by: Principal, repository: str) -> None:
        async with self._database.transaction() as unit:
            held = await repository_store.hold_repository(unit.connection, repository, alone=True)
            if held is None or await manifest_store.digests_in(unit.connection, held.repository_id, "", 1):
                return  # somebody uses it
            await grant_store.set_visibility(unit.connection, held.repository_id, Visibility.PRIVATE)
            await grant_store.delete_grants(unit.connection, held.repository_id)
            self._trail.record(
                unit, act_of(by, "registry.repository_emptied", tenant=held.tenant, repository=held.name)
            )
        self._rights.forget(repository)
