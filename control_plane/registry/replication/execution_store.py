"""Queries over executions, and what was heard of already."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import inserted
from control_plane.registry.replication.model import OPEN, Cause, Execution, State, Tally
from control_plane.registry.replication.tables import replication_executions as executions
from control_plane.registry.replication.tables import replication_messages as messages
from control_plane.registry.replication.tables import replication_tasks as tasks


async def add(connection: AsyncConnection, execution: Execution) -> None:
    await connection.execute(
        insert(executions).values(
            id=execution.execution_id,
            rule_id=execution.rule_id,
            tenant_id=execution.tenant_id,
            tenant=execution.tenant,
            cause=execution.cause,
            state=execution.state,
            created_at=execution.created_at,
        )
    )


async def find(connection: AsyncConnection, execution_id: str, *, hold: bool = False) -> Execution | None:
    query = select(executions).where(executions.c.id == execution_id)
    row = (await connection.execute(query.with_for_update() if hold else query)).one_or_none()
    return None if row is None else _execution(row)


async def open_run(connection: AsyncConnection, rule_id: str) -> Execution | None:
    """One that copies everything and has not ended."""
    query = (
        select(executions)
        .where(executions.c.rule_id == rule_id, executions.c.state.in_(OPEN), executions.c.cause != Cause.EVENT)
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _execution(row)


async def set_state(connection: AsyncConnection, execution_id: str, state: State, ended_at: datetime | None) -> None:
    await connection.execute(
        update(executions).where(executions.c.id == execution_id).values(state=state, ended_at=ended_at)
    )


async def page(
    connection: AsyncConnection, tenants: Sequence[str] | None, rule_id: str | None, offset: int, limit: int
) -> tuple[list[Execution], int]:
    """The newest first, and how many in all."""
    query = select(executions)
    if tenants is not None:
        query = query.where(executions.c.tenant.in_(tenants))
    if rule_id is not None:
        query = query.where(executions.c.rule_id == rule_id)
    total = (await connection.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
    query = query.order_by(executions.c.created_at.desc(), executions.c.id.desc())
    rows = await connection.execute(query.offset(offset).limit(limit))
    return [_execution(row) for row in rows], total


async def tallies(connection: AsyncConnection, execution_ids: Sequence[str]) -> dict[str, Tally]:
    query = (
        select(
            tasks.c.execution_id, tasks.c.state, func.count().label("tasks"), func.sum(tasks.c.bytes_done).label("b")
        )
        .where(tasks.c.execution_id.in_(execution_ids))
        .group_by(tasks.c.execution_id, tasks.c.state)
    )
    counts: dict[str, dict[State, int]] = {each: {} for each in execution_ids}
    moved = dict.fromkeys(execution_ids, 0)
    for row in await connection.execute(query):
        counts[row.execution_id][State(row.state)] = row.tasks
        moved[row.execution_id] += int(row.b or 0)
    return {each: Tally(counts[each], moved[each]) for each in execution_ids}


async def forget_ended(connection: AsyncConnection, before: datetime) -> int:
    """Executions that ended before then, and announcements that were heard before then."""
    await connection.execute(delete(messages).where(messages.c.seen_at < before))
    done = await connection.execute(delete(executions).where(executions.c.ended_at < before))
    return done.rowcount


async def is_new(connection: AsyncConnection, message_id: str, now: datetime) -> bool:
    """Whether the announcement was not acted on yet; from now on it was."""
    return await inserted(connection, messages, {"message_id": message_id, "seen_at": now})


def _execution(row: Row[Any]) -> Execution:
    return Execution(
        row.id, row.rule_id, row.tenant_id, row.tenant, Cause(row.cause), State(row.state), row.created_at, row.ended_at
    )
