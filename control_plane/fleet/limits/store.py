"""Policies in and out of the database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from common.limits import DailyWindow, Link
from control_plane.database.upserts import insert_or_replace
from control_plane.fleet.limits.model import LimitPolicy, Policies, Scope, ScopeKind, WindowPolicy
from control_plane.fleet.limits.tables import link_limits


async def all_policies(connection: AsyncConnection) -> Policies:
    rows = await connection.execute(select(link_limits))
    return {Scope(ScopeKind(row.kind), row.target_id): _policy(row.policy) for row in rows}


async def put(connection: AsyncConnection, scope: Scope, policy: LimitPolicy, now: datetime) -> None:
    row = {"kind": scope.kind.value, "target_id": scope.target_id, "policy": _record(policy), "updated_at": now}
    await insert_or_replace(connection, link_limits, [row])


async def remove(connection: AsyncConnection, scope: Scope) -> None:
    await connection.execute(
        delete(link_limits).where(link_limits.c.kind == scope.kind.value, link_limits.c.target_id == scope.target_id)
    )


def _record(policy: LimitPolicy) -> dict[str, Any]:
    return {
        "rates": _rates_record(policy.rates),
        "windows": [
            {
                "from": one.window.from_minute,
                "until": one.window.until_minute,
                "time_zone": one.window.time_zone,
                "rates": _rates_record(one.rates),
            }
            for one in policy.windows
        ],
    }


def _policy(record: Mapping[str, Any]) -> LimitPolicy:
    windows = tuple(
        WindowPolicy(DailyWindow(one["from"], one["until"], one["time_zone"]), _rates(one["rates"]))
        for one in record["windows"]
    )
    return LimitPolicy(_rates(record["rates"]), windows)


def _rates_record(rates: Mapping[Link, float]) -> dict[str, float]:
    return {link.value: mbps for link, mbps in rates.items()}


def _rates(record: Mapping[str, float]) -> dict[Link, float]:
    return {Link(name): float(mbps) for name, mbps in record.items()}
