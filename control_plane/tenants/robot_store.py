"""Queries over robots and their keys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import inserted
from control_plane.tenants.access import RobotScope
from control_plane.tenants.robot_model import Robot, RobotKey
from control_plane.tenants.tables import robot_keys, robots, tenants
from control_plane.web.paging import Page, PageRequest

_ROBOTS = select(robots, tenants.c.name.label("tenant")).join(tenants, tenants.c.id == robots.c.tenant_id)


class KnownKey(NamedTuple):
    """A key with the robot that it speaks for, which has no keys here."""

    key: RobotKey
    robot: Robot


async def add_robot(connection: AsyncConnection, robot: Robot, tenant_id: str) -> bool:
    """False if the tenant has one of that name."""
    row = {
        "id": robot.id,
        "tenant_id": tenant_id,
        "name": robot.name,
        "description": robot.description,
        "scopes": encode_scopes(robot.scopes),
        "disabled": robot.disabled,
        "expires_at": robot.expires_at,
        "created_by": robot.created_by,
        "created_at": robot.created_at,
    }
    return await inserted(connection, robots, row)


async def find_robot(
    connection: AsyncConnection, tenant_id: str, name: str, now: datetime, *, lock: bool = False
) -> Robot | None:
    """With its keys; `lock` holds it until the transaction ends."""
    if "\x00" in name:  # PostgreSQL refuses it in text, and no name has it
        return None
    query = _ROBOTS.where(robots.c.tenant_id == tenant_id, robots.c.name == name)
    row = (await connection.execute(query.with_for_update(of=robots) if lock else query)).first()
    return None if row is None else _robot(row, (await _keys_of(connection, [row.id], now)).get(row.id, ()))


async def list_robots(connection: AsyncConnection, tenant_id: str, page: PageRequest, now: datetime) -> Page[Robot]:
    """By name, with their keys."""
    mine = robots.c.tenant_id == tenant_id
    total = int(await connection.scalar(select(func.count()).select_from(robots).where(mine)) or 0)
    query = _ROBOTS.where(mine).order_by(robots.c.name).offset(page.offset).limit(page.limit)
    rows = (await connection.execute(query)).all()
    keys = await _keys_of(connection, [row.id for row in rows], now)
    return Page([_robot(row, keys.get(row.id, ())) for row in rows], total, page)


async def update_robot(connection: AsyncConnection, robot: Robot) -> None:
    values = {
        "description": robot.description,
        "scopes": encode_scopes(robot.scopes),
        "disabled": robot.disabled,
        "expires_at": robot.expires_at,
    }
    await connection.execute(update(robots).where(robots.c.id == robot.id).values(values))


async def delete_robot(connection: AsyncConnection, robot_id: str) -> None:
    """With its keys."""
    await connection.execute(delete(robot_keys).where(robot_keys.c.robot_id == robot_id))
    await connection.execute(delete(robots).where(robots.c.id == robot_id))


async def add_key(connection: AsyncConnection, robot_id: str, key: RobotKey) -> None:
    await connection.execute(
        insert(robot_keys).values(
            id=key.id,
            robot_id=robot_id,
            secret_hash=key.secret_hash,
            created_at=key.created_at,
            expires_at=key.expires_at,
            last_used_at=None,
        )
    )


async def end_keys(connection: AsyncConnection, robot_id: str, keep: str, at: datetime) -> None:
    """All but one end at that moment, if they do not end sooner."""
    others = (robot_keys.c.robot_id == robot_id) & (robot_keys.c.id != keep)
    later = or_(robot_keys.c.expires_at.is_(None), robot_keys.c.expires_at > at)
    await connection.execute(update(robot_keys).where(others, later).values(expires_at=at))


async def delete_key(connection: AsyncConnection, robot_id: str, key_id: str) -> None:
    await connection.execute(delete(robot_keys).where(robot_keys.c.robot_id == robot_id, robot_keys.c.id == key_id))


async def forget_ended_keys(connection: AsyncConnection, now: datetime) -> int:
    done = await connection.execute(delete(robot_keys).where(robot_keys.c.expires_at <= now))
    return done.rowcount


async def find_key(connection: AsyncConnection, key_id: str) -> KnownKey | None:
    query = select(robot_keys).where(robot_keys.c.id == key_id)
    row = (await connection.execute(query)).first()
    if row is None:
        return None
    owner = (await connection.execute(_ROBOTS.where(robots.c.id == row.robot_id))).first()
    return None if owner is None else KnownKey(_key(row), _robot(owner, ()))


async def key_ids_in(connection: AsyncConnection, tenant_id: str) -> list[str]:
    """Of all robots of the tenant."""
    query = select(robot_keys.c.id).join(robots, robots.c.id == robot_keys.c.robot_id)
    return list(await connection.scalars(query.where(robots.c.tenant_id == tenant_id)))


async def touch_key(connection: AsyncConnection, key_id: str, now: datetime, not_after: datetime) -> None:
    """Record a use, unless one after `not_after` is recorded already (by another replica)."""
    earlier = or_(robot_keys.c.last_used_at.is_(None), robot_keys.c.last_used_at <= not_after)
    await connection.execute(update(robot_keys).where(robot_keys.c.id == key_id, earlier).values(last_used_at=now))


def encode_scopes(scopes: Iterable[RobotScope]) -> str:
    return json.dumps([[scope.pattern, sorted(scope.actions)] for scope in scopes], separators=(",", ":"))


def decode_scopes(text: str) -> tuple[RobotScope, ...]:
    return tuple(RobotScope(pattern, frozenset(actions)) for pattern, actions in json.loads(text))


async def _keys_of(
    connection: AsyncConnection, robot_ids: Sequence[str], now: datetime
) -> Mapping[str, tuple[RobotKey, ...]]:
    living = or_(robot_keys.c.expires_at.is_(None), robot_keys.c.expires_at > now)
    query = select(robot_keys).where(robot_keys.c.robot_id.in_(robot_ids), living).order_by(robot_keys.c.id)
    found: dict[str, tuple[RobotKey, ...]] = {}
    for row in await connection.execute(query):
        found[row.robot_id] = (*found.get(row.robot_id, ()), _key(row))
    return found


def _key(row: Row[Any]) -> RobotKey:
    return RobotKey(row.id, row.secret_hash, row.created_at, row.expires_at, row.last_used_at)


def _robot(row: Row[Any], keys: tuple[RobotKey, ...]) -> Robot:
    return Robot(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        description=row.description,
        scopes=decode_scopes(row.scopes),
        disabled=row.disabled,
        expires_at=row.expires_at,
        created_by=row.created_by,
        created_at=row.created_at,
        keys=keys,
    )
