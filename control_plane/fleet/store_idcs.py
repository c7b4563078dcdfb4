"""Queries about data centres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.fleet.model import Idc, IdcExists, IdcInUse
from control_plane.fleet.tables import hosts, idcs, join_tokens, regionals


async def insert_idc(connection: AsyncConnection, idc: Idc) -> None:
    """Raises `IdcExists`."""
    try:
        await connection.execute(
            insert(idcs).values(
                id=idc.id, name=idc.name, display_name=idc.display_name, created_at=idc.created_at, orders_generation=1
            )
        )
    except IntegrityError:
        raise IdcExists(f"there is an IDC {idc.name} already", action="choose another name") from None


async def find_idc(connection: AsyncConnection, name: str, *, locked: bool = False) -> Idc | None:
    """`locked`: nobody removes it or joins it until the unit of work ends."""
    question = select(idcs).where(idcs.c.name == name)
    row = (await connection.execute(question.with_for_update() if locked else question)).one_or_none()
    return None if row is None else _idc(row)


async def list_idcs(connection: AsyncConnection, offset: int, limit: int) -> tuple[Sequence[Idc], int]:
    total = await connection.scalar(select(func.count()).select_from(idcs))
    rows = await connection.execute(select(idcs).order_by(idcs.c.name).offset(offset).limit(limit))
    return [_idc(row) for row in rows], int(total or 0)


async def delete_idc(connection: AsyncConnection, idc: Idc) -> None:
    """With its join tokens and the rows of its revoked members. Raises `IdcInUse` if anything else needs it."""
    try:
        await connection.execute(delete(join_tokens).where(join_tokens.c.idc_id == idc.id))
        for table in (hosts, regionals):
            await connection.execute(delete(table).where(table.c.idc_id == idc.id, table.c.revoked_at.is_not(None)))
        await connection.execute(delete(idcs).where(idcs.c.id == idc.id))
    except IntegrityError:
        raise IdcInUse(
            f"IDC {idc.name} still has hosts or regionals", action="remove them first: `longshore host list`"
        ) from None


def _idc(row: Row[Any]) -> Idc:
    return Idc(id=row.id, name=row.name, display_name=row.display_name, created_at=row.created_at)


async def names_by_id(connection: AsyncConnection) -> dict[str, str]:
    rows = await connection.execute(select(idcs.c.id, idcs.c.name))
    return {row.id: row.name for row in rows}
