"""A registry with its collection, as the tests of the collection use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from common.clock import ManualClock
from common.digest import Digest
from control_plane.blobs import BlobStore
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database
from control_plane.jobs.service import JobService
from control_plane.queues.memory import MemoryQueue
from control_plane.registry.collection.marking import CollectionKeeper, Marker
from control_plane.registry.collection.model import Pace, Tally
from control_plane.registry.collection.service import CollectionService, open_collection
from control_plane.registry.collection.trash import TrashService
from control_plane.registry.participants import Hooks, Participant
from control_plane.registry.service import RegistryService
from tests.control_plane.registry.people import Directory

PACE = Pace(jitter_seconds=0)
DAY = timedelta(days=1)


@dataclass
class Machines:
    """What machines are told to hold."""

    digests: set[Digest] = field(default_factory=set)

    async def wanted(self, digests: Sequence[Digest]) -> set[Digest]:
        return self.digests & set(digests)


@dataclass
class Stage:
    clock: ManualClock
    database: Database
    blobs: BlobStore
    registry: RegistryService
    collection: CollectionService
    trash: TrashService
    machines: Machines

    def pass_time(self, time: timedelta) -> None:
        self.clock.tick(time.total_seconds())

    async def collect(self) -> Tally:
        run = await self.collection.collect()
        return Tally() if run is None else run.tally

    async def collect_to_the_end(self, steps: int = 8) -> Tally:
        """Everything that nobody needs is gone afterwards."""
        total = Tally()
        for _ in range(steps):
            self.pass_time(timedelta(hours=13))
            total += await self.collect()
        return total

    async def holds(self, *contents: bytes) -> bool:
        """Whether the store has the bytes of all of them."""
        return all([await self.blobs.stat(Digest.of(each)) == len(each) for each in contents])

    async def holds_any(self, *contents: bytes) -> bool:
        return any([await self.blobs.stat(Digest.of(each)) is not None for each in contents])


def set_stage(
    database: Database,
    clock: ManualClock,
    blobs: BlobStore | None = None,
    *,
    others: Sequence[Participant] = (),
    pace: Pace = PACE,
) -> Stage:
    store = blobs or MemoryBlobStore(clock)
    marker, keeper = Marker(pace, chance=lambda: 0.0), CollectionKeeper(database, pace)
    hooks = Hooks(participants=(*others, marker), keeper=keeper)
    registry = RegistryService(database, store, Directory("acme", "birch"), clock, hooks)
    machines = Machines()
    jobs = JobService(database, MemoryQueue(), clock)
    collection = open_collection(database, store, registry, hooks, jobs, pace, wishes=machines, chance=lambda: 0.0)
    return Stage(clock, database, store, registry, collection.service, collection.trash, machines)
