"""What operators do to hosts as places: cordon, drain, open again, and say what is kept back.

Invariant: a host that is closed gets nothing new from the commit on; what moves away from a drained one is the work of
whoever placed it there, woken by the message that commits with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.audit.service import AuditTrail
from control_plane.database import Database
from control_plane.fleet import store_idcs, store_members
from control_plane.fleet.hosts import Members
from control_plane.fleet.messages import CapacityChanged, HostStandingChanged
from control_plane.fleet.model import IdcUnknown
from control_plane.fleet.placement import store
from control_plane.fleet.placement.model import (
    CapacityPolicy,
    HostStanding,
    PlacementInvalid,
    Scope,
    ScopeKind,
    Standing,
)
from control_plane.fleet.placement.selectors import check_policy
from control_plane.tenants.access import Permission, Principal
from control_plane.tenants.acting import act_of

_MOST_REASON = 500
_MOST_UNAVAILABLE = 10_000


@dataclass(frozen=True, slots=True)
class ScopePolicy:
    """`name`: of the IDC, or `idc/name` of the host; empty for the platform."""

    kind: ScopeKind
    name: str
    policy: CapacityPolicy


class HostPlaces:
    def __init__(self, database: Database, members: Members, trail: AuditTrail) -> None:
        self._database = database
        self._members = members
        self._trail = trail

    async def standing(self, principal: Principal, host: str) -> HostStanding:
        """`host`: id or `idc/name`. Raises `HostUnknown`."""
        principal.require(Permission.PLATFORM_READ)
        member = (await self._members.get("host", host)).member
        async with self._database.reading() as connection:
            return (await store.standings(connection, [member.id])).get(member.id, HostStanding())

    async def put(
        self, principal: Principal, host: str, standing: Standing, reason: str = "", max_unavailable: int = 1
    ) -> HostStanding:
        """Harmless to repeat. Raises `HostUnknown`, `PlacementInvalid`, `Denied`; then nothing changed."""
        principal.require(Permission.PLATFORM_MANAGE)
        _check(reason, max_unavailable)
        member = (await self._members.get("host", host)).member
        async with self._database.transaction() as unit:
            before = (await store.standings(unit.connection, [member.id])).get(member.id, HostStanding())
            wanted = HostStanding(standing, reason, principal.name, unit.clock.now(), max_unavailable)
            if standing is Standing.OPEN:
                wanted = HostStanding()
            same = (before.standing, before.reason, before.max_unavailable)
            if same == (wanted.standing, wanted.reason, wanted.max_unavailable):
                return before
            await store.put_standing(unit.connection, member.id, wanted, unit.clock.now())
            await unit.announce(HostStandingChanged(member.id, standing.value))
            name = f"{member.idc}/{member.name}"
            details = {"reason": reason, "before": before.standing.value}
            self._trail.record(unit, act_of(principal, f"host.{_VERBS[standing]}", subject=name, details=details))
        return wanted

    async def policies(self, principal: Principal) -> list[ScopePolicy]:
        """Every scope that has one: the platform first, then IDCs, then hosts, by name."""
        principal.require(Permission.PLATFORM_READ)
        async with self._database.reading() as connection:
            found = await store.policies(connection)
            ids = [scope.target_id for scope in found if scope.kind is ScopeKind.HOST]
            names = await store_idcs.names_by_id(connection)
            hosts = await store_members.hosts_by_id(connection, ids)
        names |= {host.id: f"{host.idc}/{host.name}" for host in hosts}
        shown = [ScopePolicy(scope.kind, names.get(scope.target_id, ""), one) for scope, one in found.items()]
        order = list(ScopeKind)
        return sorted(shown, key=lambda one: (order.index(one.kind), one.name))

    async def put_policy(self, principal: Principal, kind: ScopeKind, name: str, policy: CapacityPolicy) -> ScopePolicy:
        """All of it at once; an empty one takes it back. What runs already stays. Raises `PlacementInvalid`,
        `IdcUnknown`, `HostUnknown`, `Denied`; then nothing changed.
        """
        principal.require(Permission.PLATFORM_MANAGE)
        check_policy(policy)
        scope = await self._scope(kind, name)
        async with self._database.transaction() as unit:
            await store.put_policy(unit.connection, scope, policy, unit.clock.now())
            await unit.announce(CapacityChanged(kind.value, scope.target_id))
            self._trail.record(unit, act_of(principal, "capacity.changed", subject=f"{kind.value} {name}".strip()))
        return ScopePolicy(kind, name, policy)

    async def _scope(self, kind: ScopeKind, name: str) -> Scope:
        if kind is ScopeKind.PLATFORM:
            return Scope(kind)
        if kind is ScopeKind.HOST:
            return Scope(kind, (await self._members.get("host", name)).member.id)
        async with self._database.reading() as connection:
            idc = await store_idcs.find_idc(connection, name)
        if idc is None:
            raise IdcUnknown(f"there is no IDC {name[:80]!r}", action="see `longshore idc list`")
        return Scope(kind, idc.id)


_VERBS = {Standing.OPEN: "uncordoned", Standing.CORDONED: "cordoned", Standing.DRAINING: "drained"}


def _check(reason: str, max_unavailable: int) -> None:
    if len(reason) > _MOST_REASON or "\0" in reason:
        raise PlacementInvalid(
            "the reason is too long, or has a NUL in it", action=f"use {_MOST_REASON} characters", field="reason"
        )
    if not 1 <= max_unavailable <= _MOST_UNAVAILABLE:
        raise PlacementInvalid(
            f"max_unavailable is {max_unavailable}", action=f"give 1 to {_MOST_UNAVAILABLE}", field="max_unavailable"
        )
