"""Queries over immutability rules, retention policies and runs. Every look-up by id names the tenant as well."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import inserted
from control_plane.registry.retention.model import (
    PLATFORM,
    UNFINISHED,
    ImmutabilityRule,
    Keep,
    KeepRule,
    Per,
    RetentionPolicy,
    Run,
    RunState,
    TagSelector,
)
from control_plane.registry.retention.tables import immutability_rules, retention_policies, retention_runs


async def rules_of(
    connection: AsyncConnection, tenant_id: str, *, with_platform: bool = False
) -> list[ImmutabilityRule]:
    """The tenant's, oldest first; `with_platform` those of the platform too."""
    owners = {tenant_id, PLATFORM} if with_platform else {tenant_id}
    query = select(immutability_rules).where(immutability_rules.c.tenant_id.in_(sorted(owners)))
    rows = await connection.execute(query.order_by(immutability_rules.c.id))
    return [_rule(row) for row in rows]


async def find_rule(connection: AsyncConnection, tenant_id: str, rule_id: str) -> ImmutabilityRule | None:
    query = select(immutability_rules).where(
        immutability_rules.c.tenant_id == tenant_id, immutability_rules.c.id == rule_id
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _rule(row)


async def add_rule(connection: AsyncConnection, rule: ImmutabilityRule) -> None:
    await connection.execute(
        insert(immutability_rules).values(
            id=rule.rule_id,
            tenant_id=rule.tenant_id,
            repositories=list(rule.repositories),
            tags=list(rule.selector.tags),
            except_tags=list(rule.selector.except_tags),
            created_by=rule.created_by,
            created_at=rule.created_at,
        )
    )


async def remove_rule(connection: AsyncConnection, tenant_id: str, rule_id: str) -> bool:
    done = await connection.execute(
        delete(immutability_rules).where(
            immutability_rules.c.tenant_id == tenant_id, immutability_rules.c.id == rule_id
        )
    )
    return done.rowcount > 0


async def policies_of(connection: AsyncConnection, tenant_id: str) -> list[RetentionPolicy]:
    """By name."""
    query = select(retention_policies).where(retention_policies.c.tenant_id == tenant_id)
    return [_policy(row) for row in await connection.execute(query.order_by(retention_policies.c.name))]


async def find_policy(
    connection: AsyncConnection, tenant_id: str, policy_id: str, *, hold: bool = False
) -> RetentionPolicy | None:
    query = select(retention_policies).where(
        retention_policies.c.tenant_id == tenant_id, retention_policies.c.id == policy_id
    )
    row = (await connection.execute(query.with_for_update() if hold else query)).one_or_none()
    return None if row is None else _policy(row)


async def add_policy(connection: AsyncConnection, policy: RetentionPolicy) -> bool:
    """False if the tenant has one of that name."""
    row = {"id": policy.policy_id, "tenant_id": policy.tenant_id, **_policy_values(policy)}
    return await inserted(connection, retention_policies, row, unless=["tenant_id", "name"])


async def put_policy(connection: AsyncConnection, policy: RetentionPolicy) -> None:
    """Everything but its name; it is there and held."""
    values = {name: value for name, value in _policy_values(policy).items() if name != "name"}
    await connection.execute(
        update(retention_policies)
        .where(retention_policies.c.tenant_id == policy.tenant_id, retention_policies.c.id == policy.policy_id)
        .values(**values)
    )


async def remove_policy(connection: AsyncConnection, tenant_id: str, policy_id: str) -> bool:
    done = await connection.execute(
        delete(retention_policies).where(
            retention_policies.c.tenant_id == tenant_id, retention_policies.c.id == policy_id
        )
    )
    return done.rowcount > 0


async def due_policies(connection: AsyncConnection, now: datetime, limit: int) -> list[RetentionPolicy]:
    """Held until the transaction ends, in the order of ids."""
    query = select(retention_policies).where(
        retention_policies.c.enabled,
        retention_policies.c.next_run_at.is_not(None),
        retention_policies.c.next_run_at <= now,
    )
    rows = await connection.execute(query.order_by(retention_policies.c.id).limit(limit).with_for_update())
    return [_policy(row) for row in rows]


async def forget_tenant(connection: AsyncConnection, tenant_id: str) -> None:
    for table in (retention_runs, retention_policies, immutability_rules):
        await connection.execute(delete(table).where(table.c.tenant_id == tenant_id))


async def add_run(connection: AsyncConnection, run: Run) -> None:
    values = {name: getattr(run, name) for name in retention_runs.c.keys() if name not in ("id", "state")}  # noqa: SIM118
    await connection.execute(insert(retention_runs).values(id=run.run_id, state=run.state.value, **values))


async def find_run(connection: AsyncConnection, tenant_id: str, run_id: str, *, hold: bool = False) -> Run | None:
    query = select(retention_runs).where(retention_runs.c.tenant_id == tenant_id, retention_runs.c.id == run_id)
    row = (await connection.execute(query.with_for_update() if hold else query)).one_or_none()
    return None if row is None else _run(row)


async def unfinished_run(connection: AsyncConnection, policy_id: str) -> Run | None:
    query = select(retention_runs).where(
        retention_runs.c.policy_id == policy_id, retention_runs.c.state.in_([state.value for state in UNFINISHED])
    )
    row = (await connection.execute(query.limit(1))).one_or_none()
    return None if row is None else _run(row)


async def page_of_runs(
    connection: AsyncConnection, tenant_id: str, policy_id: str, offset: int, limit: int
) -> tuple[list[Run], int]:
    """Newest first, and how many there are."""
    query = select(retention_runs).where(
        retention_runs.c.tenant_id == tenant_id, retention_runs.c.policy_id == policy_id
    )
    total = (await connection.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
    ordered = query.order_by(retention_runs.c.created_at.desc(), retention_runs.c.id.desc())
    return [_run(row) for row in await connection.execute(ordered.offset(offset).limit(limit))], total


async def put_run(connection: AsyncConnection, run: Run, *, only_unfinished: bool = True) -> bool:
    """Writes state and counts. False if the run has ended (it was cancelled) or is gone."""
    condition = [retention_runs.c.id == run.run_id]
    if only_unfinished:
        condition.append(retention_runs.c.state.in_([state.value for state in UNFINISHED]))
    done = await connection.execute(
        update(retention_runs)
        .where(*condition)
        .values(
            state=run.state.value,
            ended_at=run.ended_at,
            repositories=run.repositories,
            examined=run.examined,
            kept=run.kept,
            deleted=run.deleted,
            skipped=run.skipped,
            detail=run.detail,
        )
    )
    return done.rowcount > 0


async def forget_runs(connection: AsyncConnection, before: datetime) -> int:
    done = await connection.execute(delete(retention_runs).where(retention_runs.c.ended_at < before))
    return done.rowcount


def _rule(row: Row[Any]) -> ImmutabilityRule:
    selector = TagSelector(tuple(row.tags), tuple(row.except_tags))
    return ImmutabilityRule(row.id, row.tenant_id, tuple(row.repositories), selector, row.created_by, row.created_at)


def _run(row: Row[Any]) -> Run:
    values = {**row._mapping, "state": RunState(row.state), "run_id": row.id}
    del values["id"]
    return Run(**values)


def _policy(row: Row[Any]) -> RetentionPolicy:
    definition = row.definition
    return RetentionPolicy(
        policy_id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        repositories=tuple(definition["repositories"]),
        rules=tuple(_keep_rule(rule) for rule in definition["rules"]),
        scope=_selector(definition["scope"]),
        untagged_days=definition["untagged_days"],
        enabled=row.enabled,
        interval_hours=row.interval_hours,
        next_run_at=row.next_run_at,
    )


def _policy_values(policy: RetentionPolicy) -> dict[str, Any]:
    return {
        "name": policy.name,
        "definition": {
            "repositories": list(policy.repositories),
            "rules": [_keep_record(rule) for rule in policy.rules],
            "scope": _selector_record(policy.scope),
            "untagged_days": policy.untagged_days,
        },
        "enabled": policy.enabled,
        "interval_hours": policy.interval_hours,
        "next_run_at": policy.next_run_at,
    }


def _keep_rule(record: Mapping[str, Any]) -> KeepRule:
    return KeepRule(
        keep=Keep(record["keep"]),
        selector=_selector(record["selector"]),
        count=record["count"],
        days=record["days"],
        per=Per(record["per"]),
        prereleases=record["prereleases"],
    )


def _keep_record(rule: KeepRule) -> dict[str, Any]:
    return {
        "keep": rule.keep.value,
        "selector": _selector_record(rule.selector),
        "count": rule.count,
        "days": rule.days,
        "per": rule.per.value,
        "prereleases": rule.prereleases,
    }


def _selector(record: Mapping[str, Any]) -> TagSelector:
    return TagSelector(tuple(record["tags"]), tuple(record["except_tags"]))


def _selector_record(selector: TagSelector) -> dict[str, Any]:
    return {"tags": list(selector.tags), "except_tags": list(selector.except_tags)}
