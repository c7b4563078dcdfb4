"""Rows of install tasks in, models out; never commits. Intents come and go sealed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, or_, select, true, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.fleet.tables import idcs
from control_plane.machines.model import MachineBusy
from control_plane.machines.records import images_of, images_record, steps_of, steps_record
from control_plane.machines.tables import install_tasks
from control_plane.machines.tasks_model import InstallTask, TaskState
from control_plane.machines.transitions import ARMED, OVER
from control_plane.web.paging import Page, PageRequest

_ARMED = [state.value for state in sorted(ARMED)]


@dataclass(frozen=True, slots=True)
class Filter:
    """`tenants`: names of those whose tasks may be seen ("" is the platform's), None: all."""

    tenants: frozenset[str] | None = None
    idc: str | None = None
    machine_id: str | None = None
    state: TaskState | None = None


async def add(connection: AsyncConnection, task: InstallTask) -> None:
    """Raises `MachineBusy` if the machine has one that is not over."""
    try:
        await connection.execute(insert(install_tasks).values(id=task.id, **_row(task)))
    except IntegrityError:
        raise _busy() from None


async def put(connection: AsyncConnection, task: InstallTask) -> None:
    """Raises `MachineBusy`."""
    try:
        await connection.execute(update(install_tasks).where(install_tasks.c.id == task.id).values(_row(task)))
    except IntegrityError:
        raise _busy() from None


async def put_intent(connection: AsyncConnection, task_id: str, sealed: bytes | None) -> None:
    await connection.execute(update(install_tasks).where(install_tasks.c.id == task_id).values(sealed_intent=sealed))


async def find(connection: AsyncConnection, task_id: str, *, locked: bool = False) -> InstallTask | None:
    return await _one(connection, install_tasks.c.id == task_id, locked=locked)


async def find_by_intent(connection: AsyncConnection, intent_id: str, *, locked: bool = False) -> InstallTask | None:
    """The task whose present intent it is."""
    return await _one(connection, install_tasks.c.intent_id == intent_id, locked=locked)


async def open_of(connection: AsyncConnection, machine_id: str) -> InstallTask | None:
    """The one that is not over."""
    return await _one(connection, and_(install_tasks.c.machine_id == machine_id, install_tasks.c.open == 1))


async def presumed_of(connection: AsyncConnection, machine_id: str) -> list[InstallTask]:
    rows = await connection.execute(_tasks().where(install_tasks.c.machine_id == machine_id, install_tasks.c.presumed))
    return [_task(row) for row in rows]


async def machine_is_armed(connection: AsyncConnection, machine_id: str) -> bool:
    """Whether it may act on an intent."""
    return bool(
        await connection.scalar(
            select(func.count()).select_from(install_tasks).where(install_tasks.c.machine_id == machine_id, _armed())
        )
    )


async def intents(connection: AsyncConnection, idc_id: str) -> Sequence[tuple[InstallTask, bytes]]:
    """The tasks of an IDC whose machines may act on an intent, with the intent as it is sealed."""
    rows = await connection.execute(
        _tasks().where(install_tasks.c.idc_id == idc_id, _armed(), install_tasks.c.sealed_intent.is_not(None))
    )
    return [(_task(row), row.sealed_intent) for row in rows]


async def intent_bytes(connection: AsyncConnection, idc_id: str) -> int:
    """Of all intents of an IDC: its regionals are sent them in one message."""
    question = select(func.coalesce(func.sum(func.length(install_tasks.c.sealed_intent)), 0)).where(
        install_tasks.c.idc_id == idc_id
    )
    return int(await connection.scalar(question) or 0)


async def silent(connection: AsyncConnection, now: datetime) -> list[str]:
    """Ids of those of which something should have been heard by now."""
    return list(
        await connection.scalars(
            select(install_tasks.c.id).where(install_tasks.c.silent_after <= now, install_tasks.c.state.in_(_ARMED))
        )
    )


async def open_of_profile(connection: AsyncConnection, profile_id: str) -> int:
    question = (
        select(func.count())
        .select_from(install_tasks)
        .where(install_tasks.c.profile_id == profile_id, or_(install_tasks.c.open == 1, _armed()))
    )
    return int(await connection.scalar(question) or 0)


async def page(connection: AsyncConnection, chosen: Filter, request: PageRequest) -> Page[InstallTask]:
    """Newest first."""
    conditions: list[ColumnElement[bool]] = [_seen_by(chosen.tenants)]
    if chosen.idc is not None:
        conditions.append(idcs.c.name == chosen.idc)
    if chosen.machine_id is not None:
        conditions.append(install_tasks.c.machine_id == chosen.machine_id)
    if chosen.state is not None:
        conditions.append(install_tasks.c.state == chosen.state.value)
    wanted = and_(*conditions)
    total = await connection.scalar(
        select(func.count()).select_from(install_tasks.join(idcs, idcs.c.id == install_tasks.c.idc_id)).where(wanted)
    )
    rows = await connection.execute(
        _tasks().where(wanted).order_by(install_tasks.c.id.desc()).limit(request.limit).offset(request.offset)
    )
    return Page([_task(row) for row in rows], int(total or 0), request)


async def counts(
    connection: AsyncConnection, tenants: frozenset[str] | None, since: datetime
) -> dict[tuple[str, str], int]:
    """How many tasks by (IDC, state): those that are not over, and those that ended since."""
    rows = await connection.execute(
        select(idcs.c.name, install_tasks.c.state, func.count().label("tasks"))
        .join(idcs, idcs.c.id == install_tasks.c.idc_id)
        .where(_seen_by(tenants), or_(install_tasks.c.open == 1, install_tasks.c.ended_at >= since))
        .group_by(idcs.c.name, install_tasks.c.state)
    )
    return {(row.name, row.state): row.tasks for row in rows}


async def durations(
    connection: AsyncConnection, tenants: frozenset[str] | None, since: datetime, most: int
) -> list[tuple[str, float]]:
    """(IDC, seconds from the machine's first boot to the end) of the newest completed ones."""
    rows = await connection.execute(
        _tasks()
        .where(
            _seen_by(tenants),
            install_tasks.c.state == TaskState.COMPLETED.value,
            install_tasks.c.ended_at >= since,
        )
        .order_by(install_tasks.c.ended_at.desc())
        .limit(most)
    )
    found = []
    for task in map(_task, rows):
        starts = [step.started_at for step in task.steps if step.started_at is not None]
        if starts and task.ended_at is not None:
            found.append((task.idc, (task.ended_at - min(starts)).total_seconds()))
    return found


async def forget_ended(connection: AsyncConnection, before: datetime) -> int:
    gone = await connection.scalars(
        delete(install_tasks).where(install_tasks.c.ended_at < before).returning(install_tasks.c.id)
    )
    return len(list(gone))


def _armed() -> ColumnElement[bool]:
    return or_(install_tasks.c.state.in_(_ARMED), install_tasks.c.presumed)


def _seen_by(tenants: frozenset[str] | None) -> ColumnElement[bool]:
    return true() if tenants is None else install_tasks.c.tenant.in_(sorted(tenants))


def _tasks() -> Any:
    return select(install_tasks, idcs.c.name.label("idc")).join(idcs, idcs.c.id == install_tasks.c.idc_id)


async def _one(connection: AsyncConnection, wanted: ColumnElement[bool], *, locked: bool = False) -> InstallTask | None:
    question = _tasks().where(wanted)
    if locked:
        question = question.with_for_update(of=install_tasks)
    row = (await connection.execute(question)).one_or_none()
    return None if row is None else _task(row)


def _row(task: InstallTask) -> dict[str, Any]:
    return {
        "machine_id": task.machine_id,
        "idc_id": task.idc_id,
        "tenant_id": task.tenant_id,
        "tenant": task.tenant,
        "profile_id": task.profile_id,
        "profile": task.profile,
        "version": task.version,
        "state": task.state.value,
        "open": None if task.state in OVER else 1,
        "created_by": task.created_by,
        "created_at": task.created_at,
        "since": task.since,
        "images": images_record(task.images),
        "content_tenant_id": task.content_tenant_id,
        "approved_by": task.approved_by,
        "attempt": task.attempt,
        "retries": task.retries,
        "intent_id": task.intent_id,
        "begun": task.begun,
        "presumed": task.presumed,
        "steps": steps_record(task.steps),
        "detail": task.detail,
        "begin_by": task.begin_by,
        "silent_after": task.silent_after,
        "ended_at": task.ended_at,
        "log_lines": task.log_lines,
        "longest_seconds": task.longest_seconds,
    }


def _task(row: Row[Any]) -> InstallTask:
    return InstallTask(
        id=row.id,
        machine_id=row.machine_id,
        idc_id=row.idc_id,
        idc=row.idc,
        tenant_id=row.tenant_id,
        tenant=row.tenant,
        profile_id=row.profile_id,
        profile=row.profile,
        version=row.version,
        state=TaskState(row.state),
        created_by=row.created_by,
        created_at=row.created_at,
        since=row.since,
        images=images_of(row.images),
        content_tenant_id=row.content_tenant_id,
        approved_by=row.approved_by,
        attempt=row.attempt,
        retries=row.retries,
        intent_id=row.intent_id,
        begun=row.begun,
        presumed=row.presumed,
        steps=steps_of(row.steps),
        detail=row.detail,
        begin_by=row.begin_by,
        silent_after=row.silent_after,
        ended_at=row.ended_at,
        log_lines=row.log_lines,
        longest_seconds=row.longest_seconds,
    )


def _busy() -> MachineBusy:
    return MachineBusy("the machine has an install task that is not over", action="see `longshore install list`")
