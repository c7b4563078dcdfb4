"""Queries over mirrors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import inserted
from control_plane.registry.mirroring.model import Mirror, Upstream
from control_plane.registry.mirroring.tables import mirrors
from control_plane.registry.tables import repositories


async def add(connection: AsyncConnection, mirror: Mirror) -> bool:
    """False if the name is taken."""
    row = {
        "id": mirror.mirror_id,
        "tenant_id": mirror.tenant_id,
        "tenant": mirror.tenant,
        "name": mirror.name,
        "upstream_url": mirror.upstream.url,
        "upstream_path": mirror.upstream.path,
        "username": mirror.username,
        "sealed": mirror.sealed,
        "ca_pem": mirror.ca_pem,
        "auth_hosts": " ".join(mirror.auth_hosts),
        "tag_ttl_seconds": mirror.tag_ttl_seconds,
        "created_at": mirror.created_at,
    }
    return await inserted(connection, mirrors, row, unless=("name",))


async def change(connection: AsyncConnection, mirror: Mirror) -> None:
    """Credentials and freshness; the rest of a mirror does not change."""
    await connection.execute(
        update(mirrors)
        .where(mirrors.c.id == mirror.mirror_id)
        .values(
            username=mirror.username,
            sealed=mirror.sealed,
            tag_ttl_seconds=mirror.tag_ttl_seconds,
            revision=mirrors.c.revision + 1,
        )
    )


async def remove(connection: AsyncConnection, mirror_id: str) -> None:
    await connection.execute(delete(mirrors).where(mirrors.c.id == mirror_id))


async def remove_of_tenant(connection: AsyncConnection, tenant_id: str) -> None:
    await connection.execute(delete(mirrors).where(mirrors.c.tenant_id == tenant_id))


async def find(connection: AsyncConnection, name: str, *, hold: bool = False) -> Mirror | None:
    """`hold` it until the transaction ends."""
    query = select(mirrors).where(mirrors.c.name == name)
    row = (await connection.execute(query.with_for_update() if hold else query)).one_or_none()
    return None if row is None else _mirror(row)


async def of_tenant(connection: AsyncConnection, tenant: str) -> tuple[Mirror, ...]:
    """In order of name."""
    rows = await connection.execute(select(mirrors).where(mirrors.c.tenant == tenant).order_by(mirrors.c.name))
    return tuple(map(_mirror, rows))


async def page(
    connection: AsyncConnection, tenants: Sequence[str] | None, offset: int, limit: int
) -> tuple[list[Mirror], int]:
    """Mirrors of these tenants (of all for None) in order of name, and how many there are in all."""
    query = select(mirrors)
    if tenants is not None:
        query = query.where(mirrors.c.tenant.in_(tenants))
    total = (await connection.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
    rows = await connection.execute(query.order_by(mirrors.c.name).offset(offset).limit(limit))
    return [_mirror(row) for row in rows], total


async def repositories_beneath(connection: AsyncConnection, name: str) -> list[str]:
    """Up to three repositories that are called so or lie beneath."""
    # "0" follows "/" in byte order, which names are compared by.
    beneath = (repositories.c.name > f"{name}/") & (repositories.c.name < f"{name}0")
    query = select(repositories.c.name).where((repositories.c.name == name) | beneath).limit(3)
    return list((await connection.execute(query)).scalars())


def _mirror(row: Row[Any]) -> Mirror:
    return Mirror(
        mirror_id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        upstream=Upstream(row.upstream_url, row.upstream_path),
        username=row.username,
        ca_pem=row.ca_pem,
        auth_hosts=tuple(row.auth_hosts.split()),
        tag_ttl_seconds=row.tag_ttl_seconds,
        created_at=row.created_at,
        revision=row.revision,
        sealed=None if row.sealed is None else bytes(row.sealed),
    )
