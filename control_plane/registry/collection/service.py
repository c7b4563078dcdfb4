"""The collection as routes, jobs and commands use it.

A pass is what one job does: the run's row is made when there is something to do, each batch counts into it in its own
transaction, and a pass that was killed leaves an unfinished row and work that the next pass finds still due.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog
from prometheus_client import CollectorRegistry, Counter

from common.digest import Digest
from common.errors import NotFound
from common.identifiers import new_id
from control_plane.blobs import BlobStore
from control_plane.database import Database
from control_plane.jobs.service import JobService
from control_plane.registry.collection import run_store
from control_plane.registry.collection.collaborators import NoWishes, Wishes
from control_plane.registry.collection.ending import Ending
from control_plane.registry.collection.marking import CollectionKeeper, Marker
from control_plane.registry.collection.model import Missing, Pace, Preview, Removal, Run, RunKind, Tally
from control_plane.registry.collection.preview import Previewer
from control_plane.registry.collection.reviewing import Reviewer
from control_plane.registry.collection.sweeping import Sweeper
from control_plane.registry.collection.trash import TrashService
from control_plane.registry.participants import Hooks
from control_plane.registry.service import RegistryService
from control_plane.tenants.access import Permission, Principal
from control_plane.web.paging import Page, PageRequest

REVIEW_KIND = "registry.collect"
SWEEP_KIND = "registry.sweep"
Progress = Callable[[Tally], Awaitable[None]]
log = structlog.get_logger()


async def _silently(_tally: Tally) -> None: ...


class RunUnknown(NotFound):
    code = "collection_run_unknown"


class CollectionMetrics:
    """Of this process; the runs' rows have the sums of all."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counters = {
            name: Counter(f"longshore_collection_{name}_total", text, registry=registry)
            for name, text in {
                "examined": "Reviews decided.",
                "purged": "Deleted manifests whose time in the trash was over.",
                "unlinked": "Links of repositories to blobs that ended.",
                "deleted": "Blobs whose bytes were deleted.",
                "deleted_bytes": "Bytes of those.",
                "adopted": "Stored bytes found without a row.",
                "failures": "Deletions that failed and are tried again.",
            }.items()
        }

    def count(self, tally: Tally) -> None:
        for name, counter in self._counters.items():
            counter.inc(getattr(tally, name))


class CollectionService:
    """Only the platform's administrators look into it, by the methods that take a principal."""

    def __init__(
        self,
        database: Database,
        reviewer: Reviewer,
        sweeper: Sweeper,
        previewer: Previewer,
        ending: Ending,
        jobs: JobService,
        pace: Pace,
        metrics: CollectionMetrics,
    ) -> None:
        self._database = database
        self._reviewer = reviewer
        self._sweeper = sweeper
        self._previewer = previewer
        self._ending = ending
        self._jobs = jobs
        self._pace = pace
        self._metrics = metrics

    async def collect(self, seconds: float | None = None, progress: Progress = _silently) -> Run | None:
        """One pass over what is due; None if nothing is. Ends after `seconds` (default: of the pace) with the rest
        still due.
        """
        clock = self._database.clock
        async with self._database.reading() as connection:
            if not await run_store.anything_due(connection, clock.now()):
                return None
        run_id = await self._begin(RunKind.REVIEW)
        until = clock.monotonic() + (self._pace.pass_seconds if seconds is None else seconds)
        total = Tally()
        async for tally in self._reviewer.everything_due(run_id):
            total += tally
            self._metrics.count(tally)
            await progress(total)
            if clock.monotonic() >= until:
                break
        return await self._finish(run_id)

    async def sweep(self, seconds: float | None = None, progress: Progress = _silently) -> Run:
        """Compare the store with the rows; goes on where a sweep was interrupted. Ends after `seconds`, unfinished."""
        clock = self._database.clock
        async with self._database.reading() as connection:
            begun = await run_store.unfinished(connection, RunKind.SWEEP)
        run_id = begun.run_id if begun is not None else await self._begin(RunKind.SWEEP)
        after = begun.cursor if begun is not None else ""
        until = clock.monotonic() + (self._pace.pass_seconds if seconds is None else seconds)
        total = Tally()
        while True:
            tally, after = await self._sweeper.page(run_id, after)
            total += tally
            self._metrics.count(tally)
            await progress(total)
            if not after:
                return await self._finish(run_id)
            if clock.monotonic() >= until:
                return await self._run(run_id)

    async def _begin(self, kind: RunKind) -> str:
        async with self._database.transaction() as unit:
            run_id = new_id(unit.clock)
            await run_store.begin(unit.connection, run_id, kind, unit.clock.now())
        return run_id

    async def _finish(self, run_id: str) -> Run:
        async with self._database.transaction() as unit:
            await run_store.finish(unit.connection, run_id, unit.clock.now())
        run = await self._run(run_id)
        log.info("collected", run=run_id, kind=run.kind, **{name: getattr(run.tally, name) for name in _TOLD})
        return run

    async def _run(self, run_id: str) -> Run:
        async with self._database.reading() as connection:
            run = await run_store.find(connection, run_id)
        if run is None:
            raise RunUnknown(f"there is no run {run_id}", action="list the runs; old ones are forgotten")
        return run

    async def end_repositories(self) -> int:
        """Those that hold nothing any more; how many ended."""
        return await self._ending.end_empty()

    async def forget_old(self) -> int:
        """Runs and removals beyond their retention; returns how many."""
        async with self._database.transaction() as unit:
            return await run_store.forget_before(unit.connection, unit.clock.now() - self._pace.records)

    async def preview(self, within: timedelta = timedelta(0), limit: int = 100) -> Preview:
        """What a pass would do if it ran `within` from now and nothing else happened. Changes nothing."""
        return await self._previewer.preview(self._database.clock.now() + within, limit)

    async def preview_for(self, principal: Principal, within: timedelta, limit: int) -> Preview:
        principal.require(Permission.PLATFORM_MANAGE)
        return await self.preview(within, limit)

    async def start(self, principal: Principal, kind: RunKind) -> str:
        """The id of the job that does it, or does it already."""
        principal.require(Permission.PLATFORM_MANAGE)
        name = REVIEW_KIND if kind is RunKind.REVIEW else SWEEP_KIND
        async with self._database.transaction() as unit:
            return await self._jobs.enqueue(unit, name, {}, unique_key=name)

    async def runs(self, principal: Principal, page: PageRequest) -> Page[Run]:
        principal.require(Permission.PLATFORM_MANAGE)
        async with self._database.reading() as connection:
            found, total = await run_store.page(connection, page.offset, page.limit)
        return Page(found, total, page)

    async def removals(self, principal: Principal, digest: Digest | None, page: PageRequest) -> Page[Removal]:
        principal.require(Permission.PLATFORM_MANAGE)
        async with self._database.reading() as connection:
            found, total = await run_store.removals(connection, digest, page.offset, page.limit)
        return Page(found, total, page)

    async def missing(self, principal: Principal, page: PageRequest) -> Page[Missing]:
        principal.require(Permission.PLATFORM_MANAGE)
        async with self._database.reading() as connection:
            found, total = await run_store.missing(connection, page.offset, page.limit)
        return Page(found, total, page)


_TOLD = ("examined", "purged", "unlinked", "deleted", "deleted_bytes", "adopted", "failures")


@dataclass(frozen=True)
class Collection:
    service: CollectionService
    trash: TrashService


def hooked(hooks: Hooks, database: Database, pace: Pace) -> Hooks:
    """The registry's hooks with the collection among them, last: it refuses nothing."""
    keeper = CollectionKeeper(database, pace)
    return replace(hooks, participants=(*hooks.participants, Marker(pace)), keeper=keeper)


def open_collection(
    database: Database,
    blobs: BlobStore,
    registry: RegistryService,
    hooks: Hooks,
    jobs: JobService,
    pace: Pace,
    *,
    wishes: Wishes | None = None,
    metrics: CollectorRegistry | None = None,
    chance: Callable[[], float] = random.random,
) -> Collection:
    """`hooks` are the registry's, as `hooked` with the same pace made them."""
    wishes = wishes or NoWishes()
    counted = CollectionMetrics(metrics or CollectorRegistry())
    reviewer = Reviewer(database, blobs, hooks, wishes, pace, chance)
    sweeper = Sweeper(database, blobs, pace)
    previewer, ending = Previewer(database, pace, wishes), Ending(database, hooks, pace)
    service = CollectionService(database, reviewer, sweeper, previewer, ending, jobs, pace, counted)
    return Collection(service, TrashService(database, registry.images, registry.rights, hooks, pace))
