"""Standings of hosts and policies of capacity, in and out of the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import insert_or_replace
from control_plane.fleet.placement.model import CapacityPolicy, HostStanding, Scope, ScopeKind, Standing
from control_plane.fleet.placement.tables import capacity_policies, host_standings

Policies = Mapping[Scope, CapacityPolicy]


async def standings(connection: AsyncConnection, host_ids: Collection[str] | None = None) -> dict[str, HostStanding]:
    """By host id; those of open hosts are absent. None: of all hosts."""
    question = select(host_standings)
    if host_ids is not None:
        question = question.where(host_standings.c.host_id.in_(host_ids))
    return {row.host_id: _standing(row) for row in await connection.execute(question)}


async def put_standing(connection: AsyncConnection, host_id: str, standing: HostStanding, now: datetime) -> None:
    if standing.standing is Standing.OPEN:
        await connection.execute(delete(host_standings).where(host_standings.c.host_id == host_id))
        return
    row = {**asdict(standing), "host_id": host_id, "standing": standing.standing.value, "since": standing.since or now}
    await insert_or_replace(connection, host_standings, [row])


async def policies(connection: AsyncConnection) -> Policies:
    rows = await connection.execute(select(capacity_policies))
    return {Scope(ScopeKind(row.kind), row.target_id): CapacityPolicy(**row.policy) for row in rows}


async def put_policy(connection: AsyncConnection, scope: Scope, policy: CapacityPolicy, now: datetime) -> None:
    """An empty one takes it back."""
    if policy.empty:
        key = capacity_policies.c.kind == scope.kind.value, capacity_policies.c.target_id == scope.target_id
        await connection.execute(delete(capacity_policies).where(*key))
        return
    row = {"kind": scope.kind.value, "target_id": scope.target_id, "policy": asdict(policy), "updated_at": now}
    await insert_or_replace(connection, capacity_policies, [row])


def _standing(row: Row[Any]) -> HostStanding:
    return HostStanding(Standing(row.standing), row.reason, row.by, row.since, row.max_unavailable)
