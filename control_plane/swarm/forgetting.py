"""Descriptions and block maps of contents that their tenant has no more.

Invariant: what goes can be made again, and comes out the same: a content that is pushed or wanted once more, or is
pulled from another tenant's public repository, is described when somebody asks for it. So a race with a push costs one
description, and one with a description at worst a block map: that content is then fetched whole. Each transaction
looks at a few hundred rows, and none younger than a day is touched.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from common.digest import Digest
from control_plane.database import Database
from control_plane.swarm import block_map_store, metainfo_store
from control_plane.swarm.metainfo_store import Key

log = structlog.get_logger()

_AT_ONCE = 500
_YOUNG = timedelta(days=1)


class Owners(Protocol):
    """`registry.contents.ContentService`."""

    async def owners(self, digests: Sequence[Digest]) -> Collection[tuple[str, Digest]]:
        """(tenant id, digest) of those that a repository of the tenant holds."""
        ...


class Forgetting:
    def __init__(self, database: Database, owners: Owners) -> None:
        self._database = database
        self._owners = owners

    async def forget_orphans(self) -> int:
        """How many descriptions went, those that failed included."""
        forgotten = 0
        for failed in (False, True):
            after: Key | None = None
            while keys := await self._page(after, failed=failed):
                after = keys[-1]
                forgotten += await self._forget(keys, failed=failed)
        if forgotten:
            log.info("descriptions forgotten", contents=forgotten)
        return forgotten

    async def _page(self, after: Key | None, *, failed: bool) -> list[Key]:
        before = self._database.clock.now() - _YOUNG
        async with self._database.reading() as connection:
            return await metainfo_store.older(connection, before, after, _AT_ONCE, failed=failed)

    async def _forget(self, keys: Sequence[Key], *, failed: bool) -> int:
        owned = await self._owners.owners([Digest.parse(digest) for _, digest in keys])
        kept = {(tenant_id, str(digest)) for tenant_id, digest in owned}
        orphans = [key for key in keys if key not in kept]
        if not orphans:
            return 0
        async with self._database.transaction() as unit:
            gone = await metainfo_store.remove_unwanted(unit.connection, orphans, failed=failed)
            await block_map_store.remove_undescribed(unit.connection, [digest for _, digest in gone])
        return len(gone)
