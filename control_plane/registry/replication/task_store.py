"""Queries over tasks: who may do which now, and what became of it.

A task is done under a lease. Whoever holds it may write to the row as long as nobody else took it, or stopped the
task: every statement of a worker says so in its WHERE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import insert_or_ignore
from control_plane.registry.replication import endpoint_store, rule_store
from control_plane.registry.replication.model import OPEN, Claimed, State, Task, Work
from control_plane.registry.replication.tables import replication_endpoints as endpoints
from control_plane.registry.replication.tables import replication_tasks as tasks

_PAGE = 500
_ENDPOINTS = 200


async def add(connection: AsyncConnection, added: Sequence[Task]) -> None:
    """Those that the execution does not have yet."""
    rows = [
        {
            "id": task.task_id,
            "execution_id": task.execution_id,
            "rule_id": task.rule_id,
            "endpoint_id": task.endpoint_id,
            "work": task.work,
            "repository": task.repository,
            "reference": task.reference,
            "destination": task.destination,
            "state": task.state,
            "attempts": 0,
            "bytes_done": 0,
            "detail": "",
            "created_at": task.created_at,
            "next_at": task.next_at,
            "checkpoint": {},
        }
        for task in added
    ]
    for start in range(0, len(rows), _PAGE):
        await insert_or_ignore(connection, tasks, rows[start : start + _PAGE])


async def is_waiting(connection: AsyncConnection, rule_id: str, endpoint_id: str, task: Task) -> bool:
    """Whether such a task will begin later, and so see what is there by then."""
    query = select(tasks.c.id).where(
        tasks.c.endpoint_id == endpoint_id,
        tasks.c.state == State.PENDING,
        tasks.c.rule_id == rule_id,
        tasks.c.work == task.work,
        tasks.c.repository == task.repository,
        tasks.c.reference == task.reference,
    )
    return (await connection.execute(query.limit(1))).first() is not None


def _due(now: datetime) -> ColumnElement[bool]:
    waiting = and_(tasks.c.state == State.PENDING, tasks.c.next_at <= now)
    # The state is named, so that the partial index serves.
    return and_(tasks.c.state.in_(OPEN), or_(waiting, and_(tasks.c.state == State.RUNNING, tasks.c.lease_until < now)))


async def is_due(connection: AsyncConnection, now: datetime) -> bool:
    return (await connection.execute(select(tasks.c.id).where(_due(now)).limit(1))).first() is not None


async def claim(
    connection: AsyncConnection, lease: str, now: datetime, until: datetime, at_once: int, room: int
) -> list[Claimed]:
    """Up to `room` tasks, the oldest first, of an endpoint no more than `at_once` with what is under way elsewhere."""
    query = select(tasks.c.endpoint_id).where(_due(now)).group_by(tasks.c.endpoint_id)
    waiting = (await connection.execute(query.order_by(func.min(tasks.c.next_at)).limit(_ENDPOINTS))).scalars().all()
    found: list[Claimed] = []
    for endpoint_id in waiting:
        if room > len(found):
            free = min(room - len(found), at_once)
            found += await _claim_of(connection, endpoint_id, lease, now, until, at_once, free)
    return found


async def _claim_of(
    connection: AsyncConnection, endpoint_id: str, lease: str, now: datetime, until: datetime, at_once: int, room: int
) -> list[Claimed]:
    # Who holds the endpoint counts alone; another replica takes other endpoints meanwhile.
    held = select(endpoints.c.id).where(endpoints.c.id == endpoint_id).with_for_update(skip_locked=True)
    if (await connection.execute(held)).first() is None:
        return []
    busy = select(func.count()).where(
        tasks.c.endpoint_id == endpoint_id, tasks.c.state == State.RUNNING, tasks.c.lease_until >= now
    )
    free = min(room, at_once - (await connection.execute(busy)).scalar_one())
    if free <= 0:
        return []
    chosen = select(tasks).where(_due(now), tasks.c.endpoint_id == endpoint_id)
    rows = (await connection.execute(chosen.order_by(tasks.c.next_at, tasks.c.id).limit(free))).all()
    endpoint = await endpoint_store.find(connection, endpoint_id)
    found = []
    for row in rows:
        taken = (
            update(tasks)
            .where(tasks.c.id == row.id, _due(now))
            .values(state=State.RUNNING, lease=lease, lease_until=until, attempts=tasks.c.attempts + 1)
        )
        rule = await rule_store.find(connection, row.rule_id)
        if rule is None or endpoint is None or (await connection.execute(taken)).rowcount != 1:
            continue
        found.append(Claimed(_task(row, attempts=row.attempts + 1, state=State.RUNNING), rule, endpoint, lease))
    return found


async def renew(connection: AsyncConnection, claimed: Claimed, until: datetime, bytes_done: int) -> bool:
    """False: it is not ours any more; stop."""
    return await _write(connection, claimed, lease_until=until, bytes_done=bytes_done)


async def keep_checkpoint(connection: AsyncConnection, claimed: Claimed, checkpoint: Mapping[str, str]) -> bool:
    return await _write(connection, claimed, checkpoint=dict(checkpoint))


async def put_off(connection: AsyncConnection, claimed: Claimed, again: datetime, bytes_done: int, why: str) -> bool:
    return await _write(
        connection,
        claimed,
        state=State.PENDING,
        next_at=again,
        bytes_done=bytes_done,
        detail=why,
        lease=None,
        lease_until=None,
    )


async def end(
    connection: AsyncConnection, claimed: Claimed, state: State, now: datetime, bytes_done: int, detail: str
) -> bool:
    return await _write(
        connection,
        claimed,
        state=state,
        ended_at=now,
        bytes_done=bytes_done,
        detail=detail,
        lease=None,
        lease_until=None,
    )


async def _write(connection: AsyncConnection, claimed: Claimed, **values: Any) -> bool:
    ours = (tasks.c.id == claimed.task.task_id) & (tasks.c.lease == claimed.lease) & (tasks.c.state == State.RUNNING)
    return (await connection.execute(update(tasks).where(ours).values(**values))).rowcount == 1


async def stop(connection: AsyncConnection, execution_id: str, now: datetime) -> None:
    """All that have not ended; who is at one of them notices at its next renewal."""
    unfinished = update(tasks).where(tasks.c.execution_id == execution_id, tasks.c.state.in_(OPEN))
    await connection.execute(unfinished.values(state=State.STOPPED, ended_at=now, lease=None, lease_until=None))


async def states_of(connection: AsyncConnection, execution_id: str) -> set[State]:
    query = select(tasks.c.state).where(tasks.c.execution_id == execution_id).distinct()
    return {State(text) for text in (await connection.execute(query)).scalars()}


async def page(
    connection: AsyncConnection, execution_id: str, state: State | None, offset: int, limit: int
) -> tuple[list[Task], int]:
    """In order of repository and reference; and how many in all."""
    query = select(tasks).where(tasks.c.execution_id == execution_id, tasks.c.work != Work.PLAN)
    if state is not None:
        query = query.where(tasks.c.state == state)
    total = (await connection.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
    query = query.order_by(tasks.c.repository, tasks.c.reference, tasks.c.work)
    rows = await connection.execute(query.offset(offset).limit(limit))
    return [_task(row) for row in rows], total


def _task(row: Row[Any], *, attempts: int | None = None, state: State | None = None) -> Task:
    return Task(
        task_id=row.id,
        execution_id=row.execution_id,
        rule_id=row.rule_id,
        endpoint_id=row.endpoint_id,
        work=Work(row.work),
        repository=row.repository,
        reference=row.reference,
        destination=row.destination,
        state=state or State(row.state),
        attempts=row.attempts if attempts is None else attempts,
        bytes_done=row.bytes_done,
        detail=row.detail,
        created_at=row.created_at,
        next_at=row.next_at,
        ended_at=row.ended_at,
        checkpoint=row.checkpoint,
    )
