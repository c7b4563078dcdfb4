"""Applying a policy: plan a repository, then delete a few images at a time, in small transactions.

Invariants: before each deletion, with the repository held alone, it is checked that nothing changed since the plan was
made (a push, a deletion, a moved tag, a pull, an instance); otherwise the plan is thrown away and made anew. What is
deleted and what is counted commit together, so a run that is killed goes on without counting twice. A cancelled run
deletes nothing more. Whoever refuses a deletion (an immutable tag made meanwhile, any participant) is obeyed, and the
image counts as skipped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto

import structlog

from common.clock import Clock
from common.digest import Digest
from common.errors import Failure, Unavailable
from control_plane.database import Database, UnitOfWork
from control_plane.registry import repository_store
from control_plane.registry.images import ImageService
from control_plane.registry.model import Repository
from control_plane.registry.retention import images_store, store
from control_plane.registry.retention.model import UNFINISHED, Plan, RetentionPolicy, Run, RunState, Stored
from control_plane.registry.retention.pictures import RunningImages, planned, read_picture
from control_plane.registry.retention.pulls import PullTimes

log = structlog.get_logger()
Report = Callable[[float, str], Awaitable[None]]
# Each transaction holds the repository alone, so pushes wait for it: some 20 deletions take tens of milliseconds. With
# one deletion each, counting what a repository of 100,000 tags holds before and after would take half an hour.
_BATCH = 20
# A repository that is pushed to without pause is left for the next run.
_PLANS = 20


class _Stopped(Exception):
    """The run was cancelled, or its policy removed."""


class _Outcome(Enum):
    GONE = auto()
    CHANGED = auto()
    REFUSED = auto()


@dataclass
class _Progress:
    """`gone`: how many images of the plan that is carried out; `refused`: those that somebody would not let go."""

    run: Run
    repository: Repository
    stamp: str = ""
    gone: int = 0
    refused: set[Digest] = field(default_factory=set)


class RetentionRunner:
    def __init__(
        self, database: Database, images: ImageService, running: RunningImages, pulls: PullTimes, clock: Clock
    ) -> None:
        self._database = database
        self._images = images
        self._running = running
        self._pulls = pulls
        self._clock = clock

    async def run(self, tenant_id: str, run_id: str, report: Report) -> Run | None:
        """To its end, whoever began it. None if it was cancelled or is gone. Raises `Unavailable`."""
        try:
            run, policy, others, repositories = await self._begin(tenant_id, run_id)
            await self._pulls.flush()
            for number, repository in enumerate(repositories):
                await report(number / len(repositories), repository.name)
                run = await self._apply(policy, others, replace(run, repositories=number + 1), repository)
            return await self._finish(run, RunState.DONE, "")
        except _Stopped:
            return None

    async def give_up(self, tenant_id: str, run_id: str, detail: str) -> None:
        """After the last attempt."""
        async with self._database.transaction() as unit:
            run = await store.find_run(unit.connection, tenant_id, run_id, hold=True)
            if run is not None:
                ended = replace(run, state=RunState.FAILED, ended_at=unit.clock.now(), detail=detail[:1000])
                await store.put_run(unit.connection, ended)

    async def _begin(
        self, tenant_id: str, run_id: str
    ) -> tuple[Run, RetentionPolicy, Sequence[RetentionPolicy], Sequence[Repository]]:
        async with self._database.transaction() as unit:
            run = await store.find_run(unit.connection, tenant_id, run_id, hold=True)
            policy = None if run is None else await store.find_policy(unit.connection, tenant_id, run.policy_id)
            if run is None or policy is None or run.state not in UNFINISHED:
                raise _Stopped
            # Seen anew from the start; what an earlier attempt deleted stays counted.
            run = replace(run, state=RunState.RUNNING, repositories=0, examined=0, kept=0, skipped=0)
            await store.put_run(unit.connection, run)
            others = await store.policies_of(unit.connection, tenant_id)
            repositories = await repository_store.repositories_of(unit.connection, tenant_id)
        return run, policy, others, [each for each in repositories if policy.covers(each.name)]

    async def _finish(self, run: Run, state: RunState, detail: str) -> Run:
        ended = replace(run, state=state, ended_at=self._clock.now(), detail=detail)
        async with self._database.transaction() as unit:
            if not await store.put_run(unit.connection, ended):
                raise _Stopped
        return ended

    async def _apply(
        self, policy: RetentionPolicy, others: Sequence[RetentionPolicy], run: Run, repository: Repository
    ) -> Run:
        progress = _Progress(run, repository)
        plan = Plan(())
        for _ in range(_PLANS):
            picture = await read_picture(self._database, self._running, repository)
            progress.stamp = picture.stamp
            plan = await planned(policy, others, picture, self._clock.now())
            if await self._carry_out(progress, plan):
                break
        else:
            log.info("retention left a busy repository for later", repository=repository.name)
        return _counted(progress, plan)

    async def _carry_out(self, progress: _Progress, plan: Plan) -> bool:
        """False if the repository changed, so that the rest of the plan is worth nothing."""
        progress.gone = 0
        left = [group for group in plan.groups() if progress.refused.isdisjoint(image.digest for image in group)]
        for batch in _batches(left):
            outcome = await self._delete(progress, [image for group in batch for image in group])
            if outcome is _Outcome.REFUSED:
                outcome = await self._delete_apart(progress, batch)
            if outcome is _Outcome.CHANGED:
                return False
        return True

    async def _delete_apart(self, progress: _Progress, batch: Sequence[Sequence[Stored]]) -> _Outcome:
        """A batch that was refused: find out whose deletion it was; the others go."""
        for group in batch:
            outcome = await self._delete(progress, group) if len(batch) > 1 else _Outcome.REFUSED
            if outcome is _Outcome.CHANGED:
                return outcome
            if outcome is _Outcome.REFUSED:
                progress.refused |= {image.digest for image in group}
        return _Outcome.GONE

    async def _delete(self, progress: _Progress, group: Sequence[Stored]) -> _Outcome:
        try:
            async with self._database.transaction() as unit:
                return await self._delete_held(unit, progress, group)
        except Unavailable:
            raise
        except Failure as failure:
            log.info("retention was refused", repository=progress.repository.name, failure=str(failure))
            return _Outcome.REFUSED

    async def _delete_held(self, unit: UnitOfWork, progress: _Progress, group: Sequence[Stored]) -> _Outcome:
        run, repository = progress.run, progress.repository
        found = await store.find_run(unit.connection, run.tenant_id, run.run_id, hold=True)
        if found is None or found.state is not RunState.RUNNING:
            raise _Stopped
        held = await repository_store.hold_repository(unit.connection, repository.name, alone=True)
        gone = held is None or held.repository_id != repository.repository_id
        if gone or not await self._unchanged(unit, progress, group):
            return _Outcome.CHANGED
        for image in group:
            await self._images.remove_manifest(unit, repository, image.digest)
        counted = replace(run, deleted=run.deleted + len(group))
        await store.put_run(unit.connection, counted)
        stamp = await images_store.stamp(unit.connection, repository.repository_id)

        async def remember() -> None:
            progress.run, progress.stamp = counted, stamp
            progress.gone += len(group)

        unit.after_commit(remember)
        return _Outcome.GONE

    async def _unchanged(self, unit: UnitOfWork, progress: _Progress, group: Sequence[Stored]) -> bool:
        repository_id, digests = progress.repository.repository_id, [image.digest for image in group]
        if await images_store.stamp(unit.connection, repository_id) != progress.stamp:
            return False
        there = await images_store.tags_and_pulls(unit.connection, repository_id, digests)
        if any(there.get(image.digest) != (image.tags, image.pulled_at) for image in group):
            return False
        if await images_store.referring(unit.connection, repository_id, digests) - set(digests):
            return False
        running = await self._running.running_images(progress.repository.name)
        return set(digests).isdisjoint(running)


def _batches(groups: Sequence[Sequence[Stored]]) -> Iterator[list[Sequence[Stored]]]:
    """Whole groups, together no more than `_BATCH` images unless one group is larger."""
    batch: list[Sequence[Stored]] = []
    for group in groups:
        if batch and sum(map(len, batch)) + len(group) > _BATCH:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


def _counted(progress: _Progress, plan: Plan) -> Run:
    """What the last plan of a repository kept, and what it would have deleted and did not."""
    run = progress.run
    kept, skipped = run.kept + plan.kept, run.skipped + plan.deleted - progress.gone
    return replace(run, kept=kept, skipped=skipped, examined=run.deleted + kept + skipped)
