"""Queries over the jobs. Every change of a running job names the lease it relies on, and reports whether it held."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import inserted
from control_plane.jobs.model import ACTIVE, ENDED, Cancelled, Done, Ending, Job, JobState, Retry
from control_plane.jobs.tables import is_active, jobs

_NO_LEASE: dict[str, Any] = {"lease_owner": None, "lease_until": None}


def _job(row: Row[Any]) -> Job:
    return Job(**{**row._mapping, "state": JobState(row.state)})


async def insert_unless_active(connection: AsyncConnection, job: Job) -> bool:
    """False if an active job of that kind has the same unique key, whether it was there before or came meanwhile."""
    values = {name: getattr(job, name) for name in jobs.c.keys()}  # noqa: SIM118  columns are not a dict
    return await inserted(connection, jobs, values, unless=["kind", "unique_key"], where=is_active)


async def find_active(connection: AsyncConnection, kind: str, unique_key: str) -> Job | None:
    query = select(jobs).where(jobs.c.kind == kind, jobs.c.unique_key == unique_key, jobs.c.state.in_(ACTIVE))
    row = (await connection.execute(query)).one_or_none()
    return _job(row) if row else None


async def find(connection: AsyncConnection, job_id: str) -> Job | None:
    row = (await connection.execute(select(jobs).where(jobs.c.id == job_id))).one_or_none()
    return _job(row) if row else None


async def list_jobs(
    connection: AsyncConnection, kind: str | None, state: JobState | None, limit: int
) -> tuple[Job, ...]:
    """The newest first."""
    query = select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit)
    if kind is not None:
        query = query.where(jobs.c.kind == kind)
    if state is not None:
        query = query.where(jobs.c.state == state)
    return tuple(_job(row) for row in await connection.execute(query))


async def claim(
    connection: AsyncConnection, job_id: str, owner: str, now: datetime, lease_until: datetime
) -> Job | None:
    """Take the lease of a job that is due, or whose lease has lapsed; None if it is neither."""
    changed = await connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, _claimable(now))
        .values(state=JobState.RUNNING, lease_owner=owner, lease_until=lease_until, attempts=jobs.c.attempts + 1)
    )
    return await find(connection, job_id) if changed.rowcount else None


async def list_claimable(connection: AsyncConnection, now: datetime, limit: int) -> Sequence[str]:
    query = select(jobs.c.id).where(_claimable(now)).order_by(jobs.c.due_at).limit(limit)
    return (await connection.execute(query)).scalars().all()


def _claimable(now: datetime) -> Any:
    due = (jobs.c.state == JobState.QUEUED) & (jobs.c.due_at <= now)
    abandoned = (jobs.c.state == JobState.RUNNING) & (jobs.c.lease_until <= now)
    return or_(due, abandoned)


async def renew(
    connection: AsyncConnection, job_id: str, owner: str, lease_until: datetime, progress: float, note: str
) -> Job | None:
    """Prolong the lease and write the progress; None if the lease is lost."""
    changed = await connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == JobState.RUNNING, jobs.c.lease_owner == owner)
        .values(lease_until=lease_until, progress=progress, progress_note=note)
    )
    return await find(connection, job_id) if changed.rowcount else None


async def finish(connection: AsyncConnection, job_id: str, owner: str, end: Ending, now: datetime) -> bool:
    """False if the lease is lost; nothing is written then."""
    changed = await connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == JobState.RUNNING, jobs.c.lease_owner == owner)
        .values(**_NO_LEASE, **_values(end, now))
    )
    return bool(changed.rowcount)


def _values(end: Ending, now: datetime) -> dict[str, Any]:
    if isinstance(end, Retry):
        return {"state": JobState.QUEUED, "due_at": end.due_at, "error_code": end.code, "error": end.error}
    if isinstance(end, Done):
        return {
            "state": JobState.DONE,
            "result": end.result,
            "progress": 1.0,
            "ended_at": now,
            "error_code": None,
            "error": None,
        }
    if isinstance(end, Cancelled):
        return {"state": JobState.CANCELLED, "ended_at": now}
    return {"state": JobState.FAILED, "error_code": end.code, "error": end.error, "ended_at": now}


async def give_back(connection: AsyncConnection, job_id: str, owner: str, now: datetime) -> None:
    """A worker that stops returns the job; the interrupted attempt does not count."""
    await connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == JobState.RUNNING, jobs.c.lease_owner == owner)
        .values(**_NO_LEASE, state=JobState.QUEUED, due_at=now, attempts=jobs.c.attempts - 1)
    )


async def cancel_queued(connection: AsyncConnection, job_id: str, now: datetime) -> bool:
    changed = await connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == JobState.QUEUED)
        .values(state=JobState.CANCELLED, cancel_requested=True, ended_at=now)
    )
    return bool(changed.rowcount)


async def request_cancel(connection: AsyncConnection, job_id: str) -> bool:
    changed = await connection.execute(
        update(jobs).where(jobs.c.id == job_id, jobs.c.state == JobState.RUNNING).values(cancel_requested=True)
    )
    return bool(changed.rowcount)


async def delete_ended(connection: AsyncConnection, before: datetime) -> int:
    done = await connection.execute(delete(jobs).where(jobs.c.state.in_(ENDED), jobs.c.ended_at < before))
    return int(done.rowcount)
