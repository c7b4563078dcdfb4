"""Parts of the tests of copies: three stores on disks, a registry over them, and what befalls disks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from common.clock import ManualClock
from common.digest import Digest
from control_plane.audit.service import AuditTrail, TrailOptions
from control_plane.blobs import BlobReader, StorageFailed
from control_plane.blobs.filesystem import FilesystemBlobStore
from control_plane.blobs.store_set.members import Member, Tier
from control_plane.blobs.store_set.store import StoreSet
from control_plane.database import Database
from control_plane.jobs.service import JobService
from control_plane.queues.memory import MemoryQueue
from control_plane.registry.service import RegistryService
from control_plane.registry.stores.assembly import StoreOptions, build_stores
from control_plane.registry.stores.copies import store as copies
from control_plane.registry.stores.copies.model import BlobCopy
from control_plane.registry.stores.placement.planner import PlacementPolicy
from control_plane.registry.stores.scrubbing.healing import Healer
from tests.control_plane.registry.people import Directory


class FickleStore(FilesystemBlobStore):
    """On a disk that can be away."""

    away = False

    async def stat(self, digest: Digest) -> int | None:
        self._ask()
        return await super().stat(digest)

    async def create_upload(self, upload_id: str) -> None:
        self._ask()
        await super().create_upload(upload_id)

    @contextlib.asynccontextmanager
    async def open(self, digest: Digest, size: int) -> AsyncIterator[BlobReader]:  # type: ignore[override]
        self._ask()
        async with super().open(digest, size) as reader:
            yield reader

    def _ask(self) -> None:
        if self.away:
            raise StorageFailed("the disk is away", action="bring it back")


class LentHealer:
    """Somebody who has what it was given."""

    name = "lender"

    def __init__(self, *contents: bytes, lies: bool = False) -> None:
        self._contents = {Digest.of(each): b"\0" + each[1:] if lies else each for each in contents}

    @contextlib.asynccontextmanager
    async def pieces(
        self, digest: Digest, size: int, repositories: Sequence[str]
    ) -> AsyncIterator[AsyncIterator[bytes] | None]:
        async def one(data: bytes) -> AsyncIterator[bytes]:
            yield data

        data = self._contents.get(digest)
        yield None if data is None else one(data)


class Site:
    def __init__(
        self,
        database: Database,
        clock: ManualClock,
        root: Path,
        healers: Sequence[Healer] = (),
        policy: PlacementPolicy | None = None,
    ) -> None:
        self.database, self.clock, self.root = database, clock, root
        self.disks = {
            name: FickleStore(root / name, reserve_bytes=0, threads=2) for name in ("primary", "second", "third")
        }
        tiers = dict(zip(self.disks, (Tier.HOT, Tier.WARM, Tier.COLD), strict=True))
        self.stores = StoreSet([Member(name, disk, tiers[name]) for name, disk in self.disks.items()], clock)
        self.registry = RegistryService(database, self.stores, Directory("acme", "birch"), clock)
        self.queue = MemoryQueue()
        self.jobs = JobService(database, self.queue, clock)
        self.trail = AuditTrail(database, clock, TrailOptions(100, flush_seconds=1.0))
        options = StoreOptions(policy or PlacementPolicy(reserve_bytes=0), scrub_rate=1 << 40, copy_rate=1 << 40)
        self.parts = build_stores(
            database, self.stores, self.jobs, self.trail, CollectorRegistry(), clock, options, healers
        )

    def path(self, store: str, digest: Digest) -> Path:
        return self.root / store / "blobs" / digest.algorithm / digest.hex[:2] / digest.hex

    def holders(self, digest: Digest) -> set[str]:
        return {name for name in self.disks if self.path(name, digest).exists()}

    async def placed(self) -> None:
        await self.parts.notes.flush()
        await self.parts.placement.place()

    async def known(self, digest: Digest) -> dict[str, BlobCopy]:
        async with self.database.reading() as connection:
            return {each.store: each for each in (await copies.copies_of(connection, [digest]))[digest]}
