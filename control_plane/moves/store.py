"""Rows of moves in, models out; never commits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, delete, func, or_, select, true, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import inserted
from control_plane.deployments.tables import deployment_slots
from control_plane.fleet.tables import hosts, idcs
from control_plane.instances.model import Instance
from control_plane.instances.store import instance_of
from control_plane.instances.tables import instances
from control_plane.moves.model import Move, Stage
from control_plane.moves.tables import instance_moves
from control_plane.web.paging import Page, PageRequest

_OPEN = instance_moves.c.open_instance_id.is_not(None)


@dataclass(frozen=True, slots=True)
class Told:
    """What a host is to hear of moves. `idc`: the name of its IDC."""

    idc: str
    moves: list[tuple[Move, Instance]] = field(default_factory=list)


async def add(connection: AsyncConnection, move: Move) -> bool:
    """False if the instance has an open move already."""
    return await inserted(connection, instance_moves, _row(move), unless=["open_instance_id"])


async def put(connection: AsyncConnection, move: Move) -> None:
    row = _row(move)
    await connection.execute(update(instance_moves).where(instance_moves.c.id == row.pop("id")).values(**row))


async def find(connection: AsyncConnection, move_id: str, *, locked: bool = False) -> Move | None:
    question = select(instance_moves).where(instance_moves.c.id == move_id)
    row = (await connection.execute(question.with_for_update() if locked else question)).one_or_none()
    return None if row is None else _move(row)


async def last_of(connection: AsyncConnection, instance_id: str, *, locked: bool = False) -> Move | None:
    question = (
        select(instance_moves)
        .where(instance_moves.c.instance_id == instance_id)
        .order_by(instance_moves.c.id.desc())
        .limit(1)
    )
    row = (await connection.execute(question.with_for_update() if locked else question)).one_or_none()
    return None if row is None else _move(row)


async def open_ids(connection: AsyncConnection) -> list[str]:
    return list(await connection.scalars(select(instance_moves.c.id).where(_OPEN).order_by(instance_moves.c.id)))


async def on_the_way(connection: AsyncConnection, host_ids: Collection[str]) -> dict[str, int]:
    """How many come from each of these hosts and are not well elsewhere yet."""
    rows = await connection.execute(
        select(instance_moves.c.source_host_id, func.count().label("moves"))
        .where(_OPEN, instance_moves.c.source_host_id.in_(host_ids), instance_moves.c.stage != Stage.CLEARING.value)
        .group_by(instance_moves.c.source_host_id)
    )
    return {row.source_host_id: int(row.moves) for row in rows}


async def open_named(connection: AsyncConnection, ids: Collection[str], *, locked: bool = False) -> list[Move]:
    """Open moves by their own or their instance's id, in the order of ids."""
    chosen = or_(instance_moves.c.id.in_(ids), instance_moves.c.open_instance_id.in_(ids))
    question = select(instance_moves).where(_OPEN, chosen).order_by(instance_moves.c.id)
    rows = await connection.execute(question.with_for_update() if locked else question)
    return [_move(row) for row in rows]


async def told(connection: AsyncConnection, host_ids: Collection[str]) -> dict[str, Told]:
    """By host, of those hosts that an open move concerns."""
    moves = instance_moves.alias("m")
    instance = [column.label(f"i_{column.name}") for column in instances.c]
    rows = await connection.execute(
        select(hosts.c.id.label("told_id"), idcs.c.name.label("idc_name"), *moves.c, *instance)
        .select_from(moves)
        .join(hosts, or_(moves.c.source_host_id == hosts.c.id, moves.c.target_host_id == hosts.c.id))
        .join(idcs, idcs.c.id == hosts.c.idc_id)
        .join(instances, instances.c.id == moves.c.open_instance_id)
        .where(moves.c.open_instance_id.is_not(None), hosts.c.id.in_(host_ids))
    )
    found: dict[str, Told] = {}
    for row in rows:
        there = found.setdefault(row.told_id, Told(row.idc_name))
        there.moves.append((_move(row), instance_of(_Prefixed(row))))  # type: ignore[arg-type]
    return found


async def page(
    connection: AsyncConnection, tenants: Collection[str] | None, request: PageRequest, *, open_only: bool
) -> Page[Move]:
    """Newest first. `tenants`: of whose instances; None: of all."""
    where = and_(
        true() if tenants is None else instance_moves.c.tenant.in_(sorted(tenants)), _OPEN if open_only else true()
    )
    total = await connection.scalar(select(func.count()).select_from(instance_moves).where(where))
    rows = await connection.execute(
        select(instance_moves)
        .where(where)
        .order_by(instance_moves.c.id.desc())
        .limit(request.limit)
        .offset(request.offset)
    )
    return Page([_move(row) for row in rows], int(total or 0), request)


async def relocate(connection: AsyncConnection, instance: Instance) -> bool:
    """The instance, which is locked, is on the host that it names from now on; false if its name is taken there."""
    try:
        async with connection.begin_nested():
            await connection.execute(
                update(instances)
                .where(instances.c.id == instance.id)
                .values(
                    host_id=instance.host_id,
                    idc_id=instance.idc_id,
                    generation=instance.generation,
                    updated_at=instance.updated_at,
                )
            )
    except IntegrityError:
        return False
    return True


async def deployed(connection: AsyncConnection, instance_ids: Collection[str]) -> set[str]:
    """Those of the instances that deployments have placed."""
    slots = deployment_slots.c
    rows = await connection.execute(
        select(slots.instance_id, slots.successor_id).where(
            or_(slots.instance_id.in_(instance_ids), slots.successor_id.in_(instance_ids))
        )
    )
    return {one for row in rows for one in row} & set(instance_ids)


async def on_hosts(connection: AsyncConnection, host_ids: Collection[str]) -> Sequence[Instance]:
    """Every instance there, in the order of ids."""
    rows = await connection.execute(
        select(instances).where(instances.c.host_id.in_(host_ids)).order_by(instances.c.host_id, instances.c.id)
    )
    return [instance_of(row) for row in rows]


async def forget_ended(connection: AsyncConnection, before: datetime) -> int:
    gone = await connection.scalars(
        delete(instance_moves).where(instance_moves.c.ended_at < before).returning(instance_moves.c.id)
    )
    return len(list(gone))


class _Prefixed:
    """A row whose columns of the instance begin with `i_`."""

    def __init__(self, row: Row[Any]) -> None:
        self._row = row

    def __getattr__(self, name: str) -> Any:
        return getattr(self._row, f"i_{name}")


def _row(move: Move) -> dict[str, Any]:
    return {
        **asdict(move),
        "stage": move.stage.value,
        "addresses": list(move.addresses),
        "open_instance_id": move.instance_id if move.ended_at is None else None,
    }


def _move(row: Row[Any]) -> Move:
    names = (column.name for column in instance_moves.c if column.name != "open_instance_id")
    values = {name: getattr(row, name) for name in names}
    return Move(**{**values, "stage": Stage(row.stage), "addresses": tuple(row.addresses)})
