"""What happened to install tasks, and what their installers wrote; never commits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import and_, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.machines.tables import install_history, install_logs
from control_plane.machines.tasks_model import HistoryEntry, InstallTask, LogLine, TaskState
from control_plane.web.paging import Page, PageRequest


async def add_history(connection: AsyncConnection, task: InstallTask, at: datetime, by: str, most: int) -> None:
    """The task is locked. No further ones are kept after `most`: a task moves a few times in its life."""
    number = await connection.scalar(
        select(func.coalesce(func.max(install_history.c.number), 0)).where(install_history.c.task_id == task.id)
    )
    if (number or 0) >= most:
        return
    await connection.execute(
        insert(install_history).values(
            task_id=task.id,
            number=(number or 0) + 1,
            at=at,
            state=task.state.value,
            attempt=task.attempt,
            by=by,
            detail=task.detail,
        )
    )


async def history(connection: AsyncConnection, task_id: str) -> list[HistoryEntry]:
    rows = await connection.execute(
        select(install_history).where(install_history.c.task_id == task_id).order_by(install_history.c.number)
    )
    return [HistoryEntry(row.number, row.at, TaskState(row.state), row.attempt, row.by, row.detail) for row in rows]


async def add_logs(connection: AsyncConnection, task_id: str, lines: Sequence[LogLine]) -> None:
    if lines:
        await connection.execute(
            insert(install_logs),
            [
                {
                    "task_id": task_id,
                    "number": line.number,
                    "at": line.at,
                    "attempt": line.attempt,
                    "step": line.step,
                    "text": line.text,
                }
                for line in lines
            ],
        )


async def drop_logs(connection: AsyncConnection, task_id: str, until: int) -> None:
    """Those whose number is not higher."""
    await connection.execute(
        delete(install_logs).where(install_logs.c.task_id == task_id, install_logs.c.number <= until)
    )


async def logs(connection: AsyncConnection, task_id: str, after: int, request: PageRequest) -> Page[LogLine]:
    """Oldest first, of those after the number `after`."""
    wanted = and_(install_logs.c.task_id == task_id, install_logs.c.number > after)
    total = await connection.scalar(select(func.count()).select_from(install_logs).where(wanted))
    rows = await connection.execute(
        select(install_logs).where(wanted).order_by(install_logs.c.number).limit(request.limit).offset(request.offset)
    )
    found = [LogLine(row.number, row.at, row.attempt, row.step, row.text) for row in rows]
    return Page(found, int(total or 0), request)
