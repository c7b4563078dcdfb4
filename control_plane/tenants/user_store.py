"""Queries over users and their standing."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import inserted
from control_plane.tenants.access import Role
from control_plane.tenants.model import Standing, User
from control_plane.tenants.tables import group_members, members, revoked_tokens, tenants, users
from control_plane.web.paging import Page, PageRequest

# Beyond this many ended tokens of one user the standing does not carry their ids: 256 are 10 KB.
MOST_REVOKED = 256


async def add_user(connection: AsyncConnection, user: User) -> bool:
    """False if the name is taken."""
    values = {
        "id": user.id,
        "name": user.name,
        "display_name": user.display_name,
        "email": user.email,
        "password_hash": user.password_hash,
        "platform_admin": user.platform_admin,
        "disabled": user.disabled,
        "token_generation": user.token_generation,
        "created_at": user.created_at,
    }
    return await inserted(connection, users, values, unless=["name"])


async def find_user(connection: AsyncConnection, name: str) -> User | None:
    if "\x00" in name:  # PostgreSQL refuses it in text, and no name has it
        return None
    row = (await connection.execute(select(users).where(users.c.name == name))).first()
    return _user(row) if row is not None else None


async def find_user_by_id(connection: AsyncConnection, user_id: str) -> User | None:
    row = (await connection.execute(select(users).where(users.c.id == user_id))).first()
    return _user(row) if row is not None else None


async def list_users(connection: AsyncConnection, page: PageRequest) -> Page[User]:
    """By name."""
    total = int(await connection.scalar(select(func.count()).select_from(users)) or 0)
    rows = await connection.execute(select(users).order_by(users.c.name).offset(page.offset).limit(page.limit))
    return Page([_user(row) for row in rows], total, page)


async def platform_admins(connection: AsyncConnection, *, lock: bool = False) -> list[User]:
    """Those who can log in, by name. `lock` holds them until the transaction ends."""
    query = select(users).where(users.c.platform_admin.is_(True), users.c.disabled.is_(False)).order_by(users.c.name)
    return [_user(row) for row in await connection.execute(query.with_for_update() if lock else query)]


async def set_password(connection: AsyncConnection, user_id: str, password_hash: str) -> None:
    """With it everything ends that was issued before."""
    await connection.execute(
        update(users)
        .where(users.c.id == user_id)
        .values(password_hash=password_hash, token_generation=users.c.token_generation + 1)
    )


async def replace_hash(connection: AsyncConnection, user_id: str, old: str, new: str) -> None:
    """The same password in a better hash; nothing happens if the password was changed meanwhile."""
    await connection.execute(
        update(users).where(users.c.id == user_id, users.c.password_hash == old).values(password_hash=new)
    )


async def set_state(connection: AsyncConnection, user_id: str, *, disabled: bool, platform_admin: bool) -> None:
    """With it everything ends that was issued before."""
    await connection.execute(
        update(users)
        .where(users.c.id == user_id)
        .values(disabled=disabled, platform_admin=platform_admin, token_generation=users.c.token_generation + 1)
    )


async def ids_of(connection: AsyncConnection, names: Collection[str]) -> dict[str, str]:
    rows = await connection.execute(select(users.c.name, users.c.id).where(users.c.name.in_(names)))
    return {row.name: row.id for row in rows}


async def names_of(connection: AsyncConnection, ids: Collection[str]) -> dict[str, str]:
    rows = await connection.execute(select(users.c.id, users.c.name).where(users.c.id.in_(ids)))
    return {row.id: row.name for row in rows}


async def read_standing(connection: AsyncConnection, user_id: str, now: datetime) -> Standing | None:
    """Four look-ups by index; None if there is no such user."""
    row = (
        await connection.execute(
            select(users.c.name, users.c.platform_admin, users.c.disabled, users.c.token_generation).where(
                users.c.id == user_id
            )
        )
    ).first()
    if row is None:
        return None
    held = await connection.execute(
        select(tenants.c.name, members.c.role)
        .join(tenants, tenants.c.id == members.c.tenant_id)
        .where(members.c.user_id == user_id)
    )
    ended = list(
        await connection.scalars(
            select(revoked_tokens.c.id)
            .where(revoked_tokens.c.user_id == user_id, revoked_tokens.c.expires_at > now)
            .limit(MOST_REVOKED + 1)
        )
    )
    return Standing(
        user_id=user_id,
        name=row.name,
        platform_admin=row.platform_admin,
        disabled=row.disabled,
        token_generation=row.token_generation,
        roles={tenant: Role(role) for tenant, role in held},
        groups=frozenset(
            await connection.scalars(select(group_members.c.group_id).where(group_members.c.user_id == user_id))
        ),
        revoked=frozenset(ended) if len(ended) <= MOST_REVOKED else None,
    )


def _user(row: Row[Any]) -> User:
    return User(**row._mapping)
