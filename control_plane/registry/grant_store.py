"""Queries over visibility and grants, and the condition that confines any query to what a principal may pull."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, false, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import insert_or_replace
from control_plane.registry.grants import (
    NO_ACCESS,
    Filter,
    Grant,
    GranteeKind,
    GrantRecord,
    Level,
    Order,
    RepositoryAccess,
    Visibility,
    Visible,
)
from control_plane.registry.tables import repositories, repository_grants


@dataclass(frozen=True, slots=True)
class FoundAccess:
    """As it is stored: tenants by id."""

    visibility: Visibility
    grants: tuple[Grant, ...]

    @property
    def tenant_ids(self) -> tuple[str, ...]:
        return tuple(grant.grantee for grant in self.grants if grant.kind is GranteeKind.TENANT)

    def access(self, tenant_names: Mapping[str, str]) -> RepositoryAccess:
        """With tenants by name; a grant to one that is gone is none."""
        grants = []
        for grant in self.grants:
            if grant.kind is not GranteeKind.TENANT:
                grants.append(grant)
            elif grant.grantee in tenant_names:
                grants.append(Grant(grant.kind, tenant_names[grant.grantee], grant.level, grant.expires_at))
        return RepositoryAccess(self.visibility, tuple(grants))


async def find_access(connection: AsyncConnection, repository: str, now: datetime) -> FoundAccess:
    """Of a repository by name; without what has expired."""
    granted = repository_grants
    query = (
        select(repositories.c.visibility, granted.c.kind, granted.c.grantee, granted.c.level, granted.c.expires_at)
        .select_from(
            repositories.outerjoin(granted, and_(granted.c.repository_id == repositories.c.id, _unexpired(now)))
        )
        .where(repositories.c.name == repository)
    )
    rows = (await connection.execute(query)).all()
    if not rows:
        return FoundAccess(NO_ACCESS.visibility, ())
    grants = tuple(
        Grant(GranteeKind(row.kind), row.grantee, Level(row.level), row.expires_at)
        for row in rows
        if row.kind is not None
    )
    return FoundAccess(Visibility(rows[0].visibility), grants)


async def visibility_of(connection: AsyncConnection, repository_id: str) -> Visibility:
    query = select(repositories.c.visibility).where(repositories.c.id == repository_id)
    return Visibility((await connection.execute(query)).scalar_one())


async def set_visibility(connection: AsyncConnection, repository_id: str, visibility: Visibility) -> None:
    changed = update(repositories).where(repositories.c.id == repository_id)
    await connection.execute(changed.values(visibility=visibility.value))


async def grants_of(connection: AsyncConnection, repository_id: str, now: datetime) -> list[GrantRecord]:
    """Those that have not expired, with ids for names."""
    granted = repository_grants
    query = select(granted).where(granted.c.repository_id == repository_id, _unexpired(now))
    rows = await connection.execute(query.order_by(granted.c.kind, granted.c.grantee))
    return [
        GrantRecord(
            GranteeKind(row.kind),
            row.grantee,
            row.grantee,
            Level(row.level),
            row.expires_at,
            row.granted_by,
            row.granted_at,
        )
        for row in rows
    ]


async def put_grant(connection: AsyncConnection, repository_id: str, record: GrantRecord) -> None:
    row = {
        "repository_id": repository_id,
        "kind": record.kind.value,
        "grantee": record.grantee,
        "level": record.level.value,
        "expires_at": record.expires_at,
        "granted_by": record.granted_by,
        "granted_at": record.granted_at,
    }
    await insert_or_replace(connection, repository_grants, [row])


async def count_grants(connection: AsyncConnection, repository_id: str) -> int:
    mine = repository_grants.c.repository_id == repository_id
    return int(await connection.scalar(select(func.count()).select_from(repository_grants).where(mine)) or 0)


async def delete_grant(connection: AsyncConnection, repository_id: str, kind: GranteeKind, grantee: str) -> bool:
    granted = repository_grants.c
    gone = delete(repository_grants).where(
        granted.repository_id == repository_id, granted.kind == kind.value, granted.grantee == grantee
    )
    return (await connection.execute(gone)).rowcount > 0


async def delete_grants(connection: AsyncConnection, repository_id: str) -> None:
    await connection.execute(delete(repository_grants).where(repository_grants.c.repository_id == repository_id))


async def forget_expired(connection: AsyncConnection, repository_id: str, now: datetime) -> None:
    mine = repository_grants.c.repository_id == repository_id
    await connection.execute(delete(repository_grants).where(mine, repository_grants.c.expires_at <= now))


def filtered(wanted: Filter) -> list[ColumnElement[bool]]:
    """Conditions on `repositories` for a listing."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.tenant is not None:
        conditions.append(repositories.c.tenant == wanted.tenant)
    if wanted.name is not None:
        conditions.append(repositories.c.name.contains(wanted.name, autoescape=True))
    if wanted.visibility is not None:
        conditions.append(repositories.c.visibility == wanted.visibility.value)
    return conditions


def ordered(order: Order) -> Sequence[ColumnElement[Any]]:
    name, created = repositories.c.name, repositories.c.created_at
    return {
        Order.NAME: [name.asc()],
        Order.NAME_DOWN: [name.desc()],
        Order.CREATED: [created.asc(), name.asc()],
        Order.CREATED_DOWN: [created.desc(), name.asc()],
    }[order]


def pullable(visible: Visible, now: datetime) -> list[ColumnElement[bool]]:
    """Conditions on `repositories`, all of which hold for those that may be pulled from."""
    conditions: list[ColumnElement[bool]] = []
    if visible.among is not None:
        conditions.append(repositories.c.name.in_(visible.among))
    if not visible.everything:
        conditions.append(or_(false(), *_reasons(visible, now)))
    return conditions


def _reasons(visible: Visible, now: datetime) -> list[ColumnElement[bool]]:
    reasons: list[ColumnElement[bool]] = []
    if visible.public:
        reasons.append(repositories.c.visibility == Visibility.PUBLIC.value)
    if visible.tenants:
        reasons.append(repositories.c.tenant.in_(visible.tenants))
    personal = _personal(visible)
    if personal:
        mine = _granted(personal, now)
        only = visible.only_tenant
        reasons.append(mine if only is None else and_(mine, repositories.c.tenant == only))
    of_tenants = _granted([_to(GranteeKind.TENANT, visible.tenant_ids)], now) if visible.tenant_ids else false()
    if visible.robot_of is None:
        reasons.append(of_tenants)
    else:
        named = or_(false(), *(repositories.c.name.like(_like(each), escape="\\") for each in visible.patterns))
        reasons.append(and_(named, or_(repositories.c.tenant == visible.robot_of, of_tenants)))
    return reasons


def _personal(visible: Visible) -> list[ColumnElement[bool]]:
    found = []
    if visible.user_id is not None:
        found.append(_to(GranteeKind.USER, [visible.user_id]))
    if visible.groups:
        found.append(_to(GranteeKind.GROUP, visible.groups))
    return found


def _to(kind: GranteeKind, grantees: Sequence[str]) -> ColumnElement[bool]:
    return and_(repository_grants.c.kind == kind.value, repository_grants.c.grantee.in_(grantees))


def _granted(to: Sequence[ColumnElement[bool]], now: datetime) -> ColumnElement[bool]:
    # IN, not EXISTS: the few grants of one principal are looked up first, by their index.
    return repositories.c.id.in_(select(repository_grants.c.repository_id).where(or_(*to), _unexpired(now)))


def _unexpired(now: datetime) -> ColumnElement[bool]:
    return or_(repository_grants.c.expires_at.is_(None), repository_grants.c.expires_at > now)


def _like(pattern: str) -> str:
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%")
