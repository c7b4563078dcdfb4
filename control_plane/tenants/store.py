"""Queries over tenants and their members."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.tenants.access import Role
from control_plane.tenants.model import Member, Tenant
from control_plane.tenants.tables import group_members, groups, members, tenants, users
from control_plane.web.paging import Page, PageRequest


async def add_tenant(connection: AsyncConnection, tenant: Tenant) -> bool:
    """False if the name is taken. Nothing else may follow in the transaction then: PostgreSQL has ended it."""
    try:
        await connection.execute(
            insert(tenants).values(
                id=tenant.id, name=tenant.name, display_name=tenant.display_name, created_at=tenant.created_at
            )
        )
    except IntegrityError:
        return False
    return True


async def find_tenant(connection: AsyncConnection, name: str, *, lock: bool = False) -> Tenant | None:
    """`lock` holds the tenant against other transactions that lock it (PostgreSQL; SQLite has one writer anyway)."""
    if "\x00" in name:  # PostgreSQL refuses it in text, and no name has it
        return None
    query = select(tenants).where(tenants.c.name == name)
    row = (await connection.execute(query.with_for_update() if lock else query)).first()
    return _tenant(row) if row is not None else None


async def list_tenants(connection: AsyncConnection, names: Collection[str] | None, page: PageRequest) -> Page[Tenant]:
    """By name. `names` None: all of them."""
    query = select(tenants) if names is None else select(tenants).where(tenants.c.name.in_(names))
    total = await _count(connection, query)
    rows = await connection.execute(query.order_by(tenants.c.name).offset(page.offset).limit(page.limit))
    return Page([_tenant(row) for row in rows], total, page)


async def remove_tenant(connection: AsyncConnection, tenant_id: str) -> bool:
    """False if something still refers to it. Nothing else may follow in the transaction then."""
    try:
        await connection.execute(delete(tenants).where(tenants.c.id == tenant_id))
    except IntegrityError:
        return False
    return True


async def ids_of(connection: AsyncConnection, names: Collection[str]) -> dict[str, str]:
    rows = await connection.execute(select(tenants.c.name, tenants.c.id).where(tenants.c.name.in_(names)))
    return {row.name: row.id for row in rows}


async def names_of(connection: AsyncConnection, ids: Collection[str]) -> dict[str, str]:
    rows = await connection.execute(select(tenants.c.id, tenants.c.name).where(tenants.c.id.in_(ids)))
    return {row.id: row.name for row in rows}


async def list_members(connection: AsyncConnection, tenant_id: str, page: PageRequest) -> Page[Member]:
    """By user name."""
    query = (
        select(users.c.name, members.c.role, members.c.since)
        .join(users, users.c.id == members.c.user_id)
        .where(members.c.tenant_id == tenant_id)
    )
    total = await _count(connection, query)
    rows = await connection.execute(query.order_by(users.c.name).offset(page.offset).limit(page.limit))
    return Page([Member(row.name, Role(row.role), row.since) for row in rows], total, page)


async def member_ids(connection: AsyncConnection, tenant_id: str) -> list[str]:
    return list(await connection.scalars(select(members.c.user_id).where(members.c.tenant_id == tenant_id)))


async def find_role(connection: AsyncConnection, tenant_id: str, user_id: str) -> Role | None:
    role = await connection.scalar(
        select(members.c.role).where(members.c.tenant_id == tenant_id, members.c.user_id == user_id)
    )
    return Role(role) if role is not None else None


async def count_admins(connection: AsyncConnection, tenant_id: str, except_user_id: str) -> int:
    """Those besides one who can log in; a disabled admin can help nobody."""
    query = (
        select(members.c.user_id)
        .join(users, users.c.id == members.c.user_id)
        .where(members.c.tenant_id == tenant_id, members.c.user_id != except_user_id)
        .where(members.c.role == Role.ADMIN.value, users.c.disabled.is_(False))
    )
    return await _count(connection, query)


async def put_member(connection: AsyncConnection, tenant_id: str, user_id: str, member: Member) -> None:
    """Call it with the tenant locked: it looks before it writes."""
    if await find_role(connection, tenant_id, user_id) is None:
        await connection.execute(
            insert(members).values(tenant_id=tenant_id, user_id=user_id, role=member.role.value, since=member.since)
        )
        return
    await connection.execute(
        update(members)
        .where(members.c.tenant_id == tenant_id, members.c.user_id == user_id)
        .values(role=member.role.value)
    )


async def remove_member(connection: AsyncConnection, tenant_id: str, user_id: str) -> None:
    """Out of the tenant's groups as well."""
    of_tenant = select(groups.c.id).where(groups.c.tenant_id == tenant_id)
    await connection.execute(
        delete(group_members).where(group_members.c.user_id == user_id, group_members.c.group_id.in_(of_tenant))
    )
    await connection.execute(delete(members).where(members.c.tenant_id == tenant_id, members.c.user_id == user_id))


async def _count(connection: AsyncConnection, query: Select[Any]) -> int:
    total = await connection.scalar(select(func.count()).select_from(query.subquery()))
    return int(total or 0)


def _tenant(row: Row[Any]) -> Tenant:
    return Tenant(**row._mapping)
