"""Hosts as places to run something: what they have, what is promised of it, and what is there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, cast, func, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.fleet import store_members
from control_plane.fleet.liveness import Horizon, state_of
from control_plane.fleet.model import Host, State
from control_plane.fleet.placement import store as placement_store
from control_plane.fleet.placement.fitting import capacity_of
from control_plane.fleet.placement.model import NOTHING, HostStanding, Offer, Resources, Scope, ScopeKind
from control_plane.instances.model import DesiredState
from control_plane.instances.places import architecture_of
from control_plane.instances.tables import instances

Names = dict[str, set[str]]


@dataclass(frozen=True, slots=True)
class _Used:
    resources: Resources = NOTHING
    instances: int = 0


async def offers(
    connection: AsyncConnection, *, at: Horizon | None = None, host_ids: Collection[str] | None = None
) -> list[Offer]:
    """Hosts that are not revoked, in the order of their ids, as they are to every tenant. Without `at` everybody counts
    as there.
    """
    found = await store_members.hosts_by_id(connection, host_ids)
    standings = await placement_store.standings(connection, host_ids)
    policies = await placement_store.policies(connection)
    used = await _used(connection, host_ids)
    return [
        Offer(
            host_id=host.id,
            host=host.name,
            idc_id=host.idc_id,
            idc=host.idc,
            architecture=architecture_of(host.facts),
            labels=dict(host.labels or {}),
            engines=_engines(host.facts),
            capacity=capacity_of(host.facts or {}, _policies(policies, host)),
            used=used.get(host.id, _Used()).resources,
            instances=used.get(host.id, _Used()).instances,
            standing=standings.get(host.id, HostStanding()).standing,
            absent_since=_absent_since(host, at),
        )
        for host in found
        if host.revoked_at is None
    ]


async def names_by_host(connection: AsyncConnection, tenant_id: str) -> tuple[Names, Names]:
    """Of the tenant's instances, by host: those that are there, and those that are being removed there."""
    present: Names = defaultdict(set)
    leaving: Names = defaultdict(set)
    rows = await connection.execute(
        select(instances.c.host_id, instances.c.name, instances.c.desired_state).where(
            instances.c.tenant_id == tenant_id
        )
    )
    for row in rows:
        gone = row.desired_state == DesiredState.REMOVED.value
        (leaving if gone else present)[row.host_id].add(row.name)
    return present, leaving


def _absent_since(host: Host, at: Horizon | None) -> Any:
    if at is None or state_of(host, at) is not State.OFFLINE:
        return None
    return host.last_seen_at or host.created_at


def _policies(policies: placement_store.Policies, host: Host) -> list[Any]:
    scopes = (Scope(ScopeKind.HOST, host.id), Scope(ScopeKind.IDC, host.idc_id), Scope(ScopeKind.PLATFORM))
    return [policies[scope] for scope in scopes if scope in policies]


def _engines(facts: Mapping[str, Any] | None) -> frozenset[str]:
    return frozenset(str(engine.get("kind", "")) for engine in (facts or {}).get("engines", ()))


async def _used(connection: AsyncConnection, host_ids: Collection[str] | None) -> dict[str, _Used]:
    """By host id, of every instance that is assigned, whatever its state: one that is stopped starts again, and one
    that is being removed is still there.
    """
    spec = instances.c.spec
    millicpus = cast(func.round(func.coalesce(spec["cpus"].as_float(), 0) * 1000), BigInteger)
    memory, disk = (
        cast(func.coalesce(spec[name].as_string(), "0"), BigInteger) for name in ("memory_bytes", "disk_bytes")
    )
    rows = await connection.execute(
        select(
            instances.c.host_id,
            func.count().label("instances"),
            func.sum(millicpus).label("millicpus"),
            func.sum(memory).label("memory_bytes"),
            func.sum(disk).label("disk_bytes"),
        )
        .where(_on(host_ids))
        .group_by(instances.c.host_id)
    )
    return {
        row.host_id: _Used(Resources(int(row.millicpus), int(row.memory_bytes), int(row.disk_bytes)), row.instances)
        for row in rows
    }


def _on(host_ids: Collection[str] | None) -> ColumnElement[bool]:
    return true() if host_ids is None else instances.c.host_id.in_(host_ids)
