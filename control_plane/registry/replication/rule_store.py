"""Queries over rules."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import inserted
from control_plane.registry.replication.model import Direction, Rule
from control_plane.registry.replication.selection import Filter, Naming
from control_plane.registry.replication.tables import replication_rules as rules


async def add(connection: AsyncConnection, rule: Rule) -> bool:
    """False if the owner has one of this name."""
    row = {
        "id": rule.rule_id,
        "tenant_id": rule.tenant_id,
        "tenant": rule.tenant,
        "created_at": rule.created_at,
        "created_by": rule.created_by,
        "direction": rule.direction,
        "endpoint_id": rule.endpoint_id,
        "name": rule.name,
        **_changeable(rule),
    }
    return await inserted(connection, rules, row, unless=("tenant_id", "name"))


async def change(connection: AsyncConnection, rule: Rule) -> None:
    await connection.execute(update(rules).where(rules.c.id == rule.rule_id).values(**_changeable(rule)))


def _changeable(rule: Rule) -> dict[str, Any]:
    return {
        "enabled": rule.enabled,
        "on_event": rule.on_event,
        "next_run_at": rule.next_run_at,
        "wishes": {
            "repositories": list(rule.source.repositories),
            "tags": list(rule.source.tags),
            "kinds": list(rule.source.kinds),
            "platforms": list(rule.source.platforms),
            "annotations": dict(rule.source.annotations),
            "namespace": rule.naming.namespace,
            "strip": rule.naming.strip,
            "every_hours": rule.every_hours,
            "cron": rule.cron,
            "time_zone": rule.time_zone,
            "also_delete": rule.also_delete,
            "override": rule.override,
            "referrers": rule.referrers,
            "bytes_per_second": rule.bytes_per_second,
        },
    }


async def remove(connection: AsyncConnection, rule_id: str) -> None:
    """With its executions and their tasks."""
    await connection.execute(delete(rules).where(rules.c.id == rule_id))


async def find(connection: AsyncConnection, rule_id: str, *, hold: bool = False) -> Rule | None:
    query = select(rules).where(rules.c.id == rule_id)
    row = (await connection.execute(query.with_for_update() if hold else query)).one_or_none()
    return None if row is None else rule_of(row)


async def count(connection: AsyncConnection, tenant_id: str) -> int:
    query = select(func.count()).select_from(rules).where(rules.c.tenant_id == tenant_id)
    return (await connection.execute(query)).scalar_one()


async def names_at(connection: AsyncConnection, endpoint_id: str) -> list[str]:
    """Up to three rules that name the endpoint."""
    query = select(rules.c.name).where(rules.c.endpoint_id == endpoint_id).order_by(rules.c.name).limit(3)
    return list((await connection.execute(query)).scalars())


async def hearing(connection: AsyncConnection, owners: Collection[str]) -> list[Rule]:
    """Rules of these owners that are enabled and hear of events."""
    query = select(rules).where(
        rules.c.tenant_id.in_(sorted(owners)), rules.c.enabled.is_(True), rules.c.on_event.is_(True)
    )
    return [rule_of(row) for row in await connection.execute(query)]


async def due(connection: AsyncConnection, now: datetime, limit: int) -> list[str]:
    """Ids of rules whose schedule is due."""
    query = select(rules.c.id).where(rules.c.next_run_at <= now).order_by(rules.c.next_run_at).limit(limit)
    return list((await connection.execute(query)).scalars())


async def page(
    connection: AsyncConnection, tenants: Sequence[str] | None, offset: int, limit: int
) -> tuple[list[Rule], int]:
    """Those of tenants of these names (of all for None), in order of owner and name; and how many in all."""
    query = select(rules)
    if tenants is not None:
        query = query.where(rules.c.tenant.in_(tenants))
    total = (await connection.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
    rows = await connection.execute(query.order_by(rules.c.tenant, rules.c.name).offset(offset).limit(limit))
    return [rule_of(row) for row in rows], total


def rule_of(row: Row[Any]) -> Rule:
    wishes = row.wishes
    return Rule(
        rule_id=row.id,
        tenant_id=row.tenant_id,
        tenant=row.tenant,
        name=row.name,
        endpoint_id=row.endpoint_id,
        direction=Direction(row.direction),
        source=Filter(
            tuple(wishes["repositories"]),
            tuple(wishes["tags"]),
            tuple(wishes["kinds"]),
            tuple(wishes["platforms"]),
            wishes["annotations"],
        ),
        naming=Naming(wishes["namespace"], wishes["strip"]),
        on_event=row.on_event,
        every_hours=wishes["every_hours"],
        cron=wishes["cron"],
        time_zone=wishes["time_zone"],
        also_delete=wishes["also_delete"],
        override=wishes["override"],
        referrers=wishes["referrers"],
        bytes_per_second=wishes["bytes_per_second"],
        enabled=row.enabled,
        created_at=row.created_at,
        created_by=row.created_by,
        next_run_at=row.next_run_at,
    )
