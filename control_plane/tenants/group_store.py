"""Queries over groups and their members."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import inserted
from control_plane.tenants.model import Group
from control_plane.tenants.tables import group_members, groups, users
from control_plane.web.paging import Page, PageRequest


async def add_group(connection: AsyncConnection, group: Group, tenant_id: str) -> bool:
    """False if the tenant has one of that name."""
    row = {"id": group.id, "tenant_id": tenant_id, "name": group.name, "created_at": group.created_at}
    return await inserted(connection, groups, row)


async def find_group(connection: AsyncConnection, tenant_id: str, name: str) -> Group | None:
    if "\x00" in name:  # PostgreSQL refuses it in text, and no name has it
        return None
    query = select(groups).where(groups.c.tenant_id == tenant_id, groups.c.name == name)
    row = (await connection.execute(query)).first()
    if row is None:
        return None
    return Group(row.id, row.name, (await _members_of(connection, [row.id])).get(row.id, ()), row.created_at)


async def list_groups(connection: AsyncConnection, tenant_id: str, page: PageRequest) -> Page[Group]:
    """By name."""
    mine = groups.c.tenant_id == tenant_id
    total = int(await connection.scalar(select(func.count()).select_from(groups).where(mine)) or 0)
    query = select(groups).where(mine).order_by(groups.c.name).offset(page.offset).limit(page.limit)
    rows = (await connection.execute(query)).all()
    members = await _members_of(connection, [row.id for row in rows])
    return Page([Group(row.id, row.name, members.get(row.id, ()), row.created_at) for row in rows], total, page)


async def ids_of(connection: AsyncConnection, tenant_id: str) -> dict[str, str]:
    rows = await connection.execute(select(groups.c.name, groups.c.id).where(groups.c.tenant_id == tenant_id))
    return {row.name: row.id for row in rows}


async def member_ids(connection: AsyncConnection, group_id: str) -> list[str]:
    return list(await connection.scalars(select(group_members.c.user_id).where(group_members.c.group_id == group_id)))


async def add_member(connection: AsyncConnection, group_id: str, user_id: str) -> bool:
    return await inserted(connection, group_members, {"group_id": group_id, "user_id": user_id})


async def remove_member(connection: AsyncConnection, group_id: str, user_id: str) -> bool:
    gone = delete(group_members).where(group_members.c.group_id == group_id, group_members.c.user_id == user_id)
    return (await connection.execute(gone)).rowcount > 0


async def delete_group(connection: AsyncConnection, group_id: str) -> None:
    await connection.execute(delete(group_members).where(group_members.c.group_id == group_id))
    await connection.execute(delete(groups).where(groups.c.id == group_id))


async def _members_of(connection: AsyncConnection, group_ids: Collection[str]) -> Mapping[str, tuple[str, ...]]:
    query = (
        select(group_members.c.group_id, users.c.name)
        .join(users, users.c.id == group_members.c.user_id)
        .where(group_members.c.group_id.in_(group_ids))
        .order_by(users.c.name)
    )
    found: dict[str, tuple[str, ...]] = {}
    for row in await connection.execute(query):
        found[row.group_id] = (*found.get(row.group_id, ()), row.name)
    return found
