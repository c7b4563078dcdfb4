"""Rows of commands in, models out; never commits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.commands.model import OPEN, Command, State, Verb
from control_plane.commands.tables import commands
from control_plane.database.upserts import inserted
from control_plane.web.paging import Page, PageRequest

_OPEN = sorted(state.value for state in OPEN)


@dataclass(frozen=True, slots=True)
class CommandFilter:
    """None: any. `open_only`: those without an outcome."""

    host_id: str | None = None
    instance_id: str | None = None
    open_only: bool = False


async def add(connection: AsyncConnection, command: Command) -> bool:
    """False if its id is taken."""
    return await inserted(connection, commands, _row(command))


async def find(connection: AsyncConnection, command_id: str, *, locked: bool = False) -> Command | None:
    question = select(commands).where(commands.c.id == command_id)
    row = (await connection.execute(question.with_for_update() if locked else question)).one_or_none()
    return None if row is None else _command(row)


async def of_host(connection: AsyncConnection, host_id: str, ids: Collection[str]) -> list[Command]:
    """Those of the ids that are the host's, locked, in the order of ids."""
    rows = await connection.execute(
        select(commands)
        .where(commands.c.host_id == host_id, commands.c.id.in_(ids))
        .order_by(commands.c.id)
        .with_for_update()
    )
    return [_command(row) for row in rows]


async def put(connection: AsyncConnection, command: Command) -> None:
    row = _row(command)
    await connection.execute(update(commands).where(commands.c.id == row.pop("id")).values(**row))


async def open_count(connection: AsyncConnection, host_id: str) -> int:
    where = commands.c.host_id == host_id, commands.c.state.in_(_OPEN)
    return int(await connection.scalar(select(func.count()).select_from(commands).where(*where)) or 0)


async def to_tell(
    connection: AsyncConnection, host_ids: Collection[str] | None = None, *, locked: bool = False
) -> dict[str, list[Command]]:
    """By host, oldest first: what a host was not told of, or did not answer yet. None: of all hosts."""
    told = or_(
        commands.c.state.in_([State.QUEUED.value, State.OFFERED.value]),
        and_(commands.c.state == State.ACCEPTED.value, commands.c.cancel_wanted),
    )
    which = true() if host_ids is None else commands.c.host_id.in_(host_ids)
    question = select(commands).where(told, which).order_by(commands.c.id)
    found: dict[str, list[Command]] = defaultdict(list)
    for row in await connection.execute(question.with_for_update() if locked else question):
        found[row.host_id].append(_command(row))
    return found


async def page(
    connection: AsyncConnection, wanted: CommandFilter, tenants: Collection[str] | None, request: PageRequest
) -> Page[Command]:
    """Newest first, without results. `tenants`: of whose instances; None: everything."""
    where = and_(
        true() if tenants is None else and_(commands.c.tenant != "", commands.c.tenant.in_(sorted(tenants))),
        true() if wanted.host_id is None else commands.c.host_id == wanted.host_id,
        true() if wanted.instance_id is None else commands.c.instance_id == wanted.instance_id,
        commands.c.state.in_(_OPEN) if wanted.open_only else true(),
    )
    total = await connection.scalar(select(func.count()).select_from(commands).where(where))
    rows = await connection.execute(
        select(commands).where(where).order_by(commands.c.id.desc()).limit(request.limit).offset(request.offset)
    )
    return Page([_command(row) for row in rows], int(total or 0), request)


async def aging(connection: AsyncConnection, now: datetime, most: int) -> list[Command]:
    """Open ones that can have become too old, locked."""
    rows = await connection.execute(
        select(commands)
        .where(commands.c.state.in_(_OPEN), commands.c.begin_by <= now)
        .order_by(commands.c.id)
        .limit(most)
        .with_for_update()
    )
    return [_command(row) for row in rows]


async def forget_ended(connection: AsyncConnection, before: datetime) -> int:
    ended: ColumnElement[bool] = or_(commands.c.updated_at < before, commands.c.created_at < before)
    gone = await connection.scalars(
        delete(commands).where(commands.c.state.not_in(_OPEN), ended).returning(commands.c.id)
    )
    return len(list(gone))


def _row(command: Command) -> dict[str, Any]:
    return {**asdict(command), "verb": command.verb.value, "state": command.state.value}


def _command(row: Row[Any]) -> Command:
    values = dict(row._mapping)
    return Command(**{**values, "verb": Verb(row.verb), "state": State(row.state)})
