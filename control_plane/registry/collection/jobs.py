"""Periodic work of the collection: what is due every minute, empty repositories once an hour, the store once
a week, old records once a day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from control_plane.jobs.periodic import Schedule
from control_plane.jobs.running import Handler, RunningJob
from control_plane.registry.collection.model import Run, Tally
from control_plane.registry.collection.service import REVIEW_KIND, SWEEP_KIND, CollectionService

FORGET_KIND = "registry.forget_collections"
END_KIND = "registry.end_repositories"


def schedules(sweep_every: timedelta) -> Sequence[Schedule]:
    return (
        Schedule(REVIEW_KIND, REVIEW_KIND, timedelta(minutes=1)),
        Schedule(SWEEP_KIND, SWEEP_KIND, sweep_every),
        Schedule(FORGET_KIND, FORGET_KIND, timedelta(days=1)),
        Schedule(END_KIND, END_KIND, timedelta(hours=1)),
    )


def build_handlers(collection: CollectionService) -> Mapping[str, Handler]:
    async def collect(job: RunningJob) -> Mapping[str, Any] | None:
        run = await collection.collect(progress=_telling(job))
        return None if run is None else _result(run)

    async def sweep(job: RunningJob) -> Mapping[str, Any] | None:
        # A store of many millions takes several passes; the cursor is in the run's row, whoever goes on.
        while (run := await collection.sweep(progress=_telling(job))).finished_at is None:
            pass
        return _result(run)

    async def forget(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"forgotten": await collection.forget_old()}

    async def end(_job: RunningJob) -> Mapping[str, Any] | None:
        return {"ended": await collection.end_repositories()}

    return {REVIEW_KIND: collect, SWEEP_KIND: sweep, FORGET_KIND: forget, END_KIND: end}


def _telling(job: RunningJob) -> Any:
    async def tell(total: Tally) -> None:
        await job.report(0.5, f"{total.examined} examined, {total.unlinked} unlinked, {total.deleted} deleted")

    return tell


def _result(run: Run) -> Mapping[str, Any]:
    return {"run": run.run_id, **asdict(run.tally)}
