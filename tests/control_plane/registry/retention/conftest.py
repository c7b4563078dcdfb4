from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pytest

from common.clock import ManualClock
from common.digest import Digest
from common.errors import Conflict
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database, UnitOfWork
from control_plane.jobs.service import JobService
from control_plane.jobs.worker import Worker
from control_plane.queues.memory import MemoryQueue
from control_plane.registry.model import Repository
from control_plane.registry.participants import Hooks, Participant
from control_plane.registry.retention.assembly import Retention, build_retention
from control_plane.registry.retention.immutability import Immutability
from control_plane.registry.retention.pulls import PullTimes
from control_plane.registry.service import RegistryService
from control_plane.tenants.access import Principal
from tests.control_plane.registry.people import Directory


@dataclass
class Running:
    """What instances run, as `instances` would say."""

    digests: set[Digest] = field(default_factory=set)

    async def running_images(self, repository: str) -> Collection[Digest]:
        return self.digests


class Refusing(Participant):
    """Fails as told at the next deletions; refuses those of `refused`."""

    def __init__(self) -> None:
        self.refused: set[Digest] = set()
        self.seen: list[Digest] = []
        self.failures: list[Exception] = []

    async def manifest_removing(
        self, unit: UnitOfWork, repository: Repository, digest: Digest, tags: Sequence[str], by: Principal | None
    ) -> None:
        self.seen.append(digest)
        if self.failures:
            raise self.failures.pop()
        if digest in self.refused:
            raise Conflict("somebody needs it")


@dataclass
class World:
    database: Database
    clock: ManualClock
    registry: RegistryService
    retention: Retention
    running: Running
    worker: Worker
    refusing: Refusing


@pytest.fixture
def world(database: Database, blobs: MemoryBlobStore, clock: ManualClock) -> World:
    """A registry with immutability and retention, and a worker that carries runs out; on both engines."""
    pulls, running, queue, tenants = PullTimes(database, clock), Running(), MemoryQueue(), Directory("acme", "birch")
    refusing = Refusing()
    registry = RegistryService(database, blobs, tenants, clock, Hooks((Immutability(), pulls, refusing)))
    jobs = JobService(database, queue, clock)
    retention = build_retention(database, tenants, jobs, registry.images, running, pulls, clock)
    worker = Worker(database, queue, retention.handlers, clock)
    return World(database, clock, registry, retention, running, worker, refusing)
