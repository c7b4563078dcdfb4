"""What the collection does while others change the registry: queue reviews, fill the trash, keep promises.

Everything here runs in the transaction of the change and costs it a statement or two; nothing is decided yet.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from common.digest import Digest
from control_plane.database import Database, UnitOfWork
from control_plane.registry.collection import review_store, trash_store
from control_plane.registry.collection.model import Pace, Reason
from control_plane.registry.manifests import ParsedManifest
from control_plane.registry.model import Manifest, Repository
from control_plane.registry.participants import Participant
from control_plane.tenants.access import Principal


class _Unlinked(list[Digest]):
    """What a transaction unlinks."""


class Marker(Participant):
    """Takes part in every change. Refuses nothing."""

    def __init__(self, pace: Pace, chance: Callable[[], float] = random.random) -> None:
        self._pace = pace
        self._chance = chance

    async def blob_linked(
        self, unit: UnitOfWork, repository: Repository, digest: Digest, size: int, by: Principal | None
    ) -> None:
        await self._promise(unit, repository, digest, Reason.PUSHED)

    async def blob_relied_on(
        self, unit: UnitOfWork, repository: Repository, digest: Digest, by: Principal | None
    ) -> None:
        await self._promise(unit, repository, digest, Reason.RELIED_ON)

    async def _promise(self, unit: UnitOfWork, repository: Repository, digest: Digest, reason: Reason) -> None:
        due = self._due(unit)
        await review_store.expect_links(
            unit.connection, repository.repository_id, [digest], due, reason, promised_until=due
        )

    async def blob_unlinked(self, unit: UnitOfWork, repository: Repository, digest: Digest, size: int) -> None:
        # One statement for all that a transaction unlinks: 2,800 instead of 900 blobs a second on two busy cores.
        async def queue(digests: _Unlinked) -> None:
            # At once: the first review only condemns them, and `settle` runs from then.
            await review_store.expect_blobs(unit.connection, digests, unit.clock.now(), Reason.UNLINKED)

        unit.gather(_Unlinked, queue).append(digest)

    async def manifest_added(
        self,
        unit: UnitOfWork,
        repository: Repository,
        manifest: Manifest,
        parsed: ParsedManifest,
        by: Principal | None,
    ) -> None:
        # Pushed again: what was kept of it is not needed. Its blobs' reviews will find them referred to.
        await trash_store.forget_manifests(unit.connection, [(repository.repository_id, manifest.digest)])

    async def manifest_removing(
        self, unit: UnitOfWork, repository: Repository, digest: Digest, tags: Sequence[str], by: Principal | None
    ) -> None:
        now = unit.clock.now()
        needed = await trash_store.keep_manifest(
            unit.connection, repository.repository_id, digest, _name(by), now, now + self._pace.grace
        )
        await review_store.expect_links(
            unit.connection, repository.repository_id, needed, self._due(unit), Reason.MANIFEST_DELETED
        )

    async def tag_changing(
        self,
        unit: UnitOfWork,
        repository: Repository,
        tag: str,
        before: Digest | None,
        after: Digest | None,
        by: Principal | None,
    ) -> None:
        if after is None and before is not None:
            now = unit.clock.now()
            await trash_store.keep_tag(
                unit.connection, repository.repository_id, tag, before, _name(by), now, now + self._pace.grace
            )

    def _due(self, unit: UnitOfWork) -> datetime:
        jitter = timedelta(seconds=self._pace.jitter_seconds * self._chance())
        return unit.clock.now() + self._pace.grace + jitter


class CollectionKeeper:
    """The `Keeper` of the registry's hooks."""

    def __init__(self, database: Database, pace: Pace) -> None:
        self._database = database
        self._pace = pace

    async def is_leaving(self, repository: str, digest: Digest) -> bool:
        """A promise holds for half a grace at least; while it does, HEAD costs no write."""
        async with self._database.reading() as connection:
            due = await review_store.review_of_link(connection, repository, digest)
        return due is not None and due < self._database.clock.now() + self._pace.grace / 2

    async def former_manifest(self, digest: Digest) -> Manifest | None:
        async with self._database.reading() as connection:
            return await trash_store.find_anywhere(connection, digest)


def _name(by: Principal | None) -> str:
    return "" if by is None else by.name[:255]
