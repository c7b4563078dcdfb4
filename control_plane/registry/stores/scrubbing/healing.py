"""Where good bytes come from when a copy is damaged.

Invariant: whatever the source, the store's commit verifies what it sends; a source that lies heals nothing and harms
nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import structlog

from common.digest import Digest, DigestMismatch
from common.errors import Failure
from control_plane.blobs import BlobMissing
from control_plane.blobs.store_set.members import Member, Members
from control_plane.database import Database
from control_plane.registry.stores.copies import store as copies
from control_plane.registry.stores.copies.copying import SourceDamaged, copy_blob, store_blob
from control_plane.registry.stores.copies.pace import ByteBudget

log = structlog.get_logger()


class Healer(Protocol):
    """Somebody beyond the stores who may have the bytes: an upstream, an edge cache, a peer."""

    @property
    def name(self) -> str: ...

    def pieces(
        self, digest: Digest, size: int, repositories: Sequence[str]
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes] | None]:
        """The bytes from the first to the last; None if it has none. `repositories` link the blob. Raises any
        `Failure`, `TimeoutError` or `OSError` if it cannot be asked.
        """
        ...


class Healing:
    def __init__(self, database: Database, members: Members, healers: Sequence[Healer], budget: ByteBudget) -> None:
        self._database = database
        self._members = members
        self._healers = healers
        self._budget = budget

    async def heal(self, digest: Digest, size: int, target: Member, repositories: Sequence[str]) -> str | None:
        """Publish the blob in `target` anew; who had it, None if nobody has. Raises `Unavailable` if somebody who may
        have it is away, and what `target` fails with.
        """
        source, away = await self._from_stores(digest, size, target)
        if source is not None:
            return source
        for healer in self._healers:
            try:
                if await self._from_healer(healer, digest, size, target, repositories):
                    return healer.name
            except (Failure, TimeoutError, OSError) as failure:
                log.warning("a healer failed", healer=healer.name, digest=str(digest), error=str(failure))
        if away is not None:
            raise away
        return None

    async def _from_stores(self, digest: Digest, size: int, target: Member) -> tuple[str | None, Failure | None]:
        """Every store is asked, whatever the rows say."""
        away: Failure | None = None
        for member in self._members.in_order(None):
            if member is target:
                continue
            try:
                if await member.store.stat(digest) is None:
                    continue
                await copy_blob(digest, size, member, target, self._budget)
            except SourceDamaged:
                async with self._database.transaction() as unit:
                    await copies.doubt(unit.connection, digest, member.name)
            except BlobMissing:
                continue
            except Failure as failure:
                away = failure
            else:
                return member.name, None
        return None, away

    async def _from_healer(
        self, healer: Healer, digest: Digest, size: int, target: Member, repositories: Sequence[str]
    ) -> bool:
        async with healer.pieces(digest, size, repositories) as pieces:
            if pieces is None:
                return False
            try:
                async with contextlib.aclosing(self._budget.paced(pieces)) as paced:
                    await store_blob(digest, size, paced, target)
            except DigestMismatch:
                log.warning("a healer has other bytes", healer=healer.name, digest=str(digest))
                return False
        return True
