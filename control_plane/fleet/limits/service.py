"""Use cases of limits: say, see and take back. Whoever is attached hears of a change at once, others when they attach.

The platform admin says them; everybody who is signed in sees those of platform, IDCs and hosts, members their
tenant's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from common.errors import NotFound
from control_plane.database import Database
from control_plane.fleet import store_idcs, store_members
from control_plane.fleet.limits import store
from control_plane.fleet.limits.model import LimitPolicy, Policies, Scope, ScopeKind, check_for
from control_plane.fleet.messages import LimitsChanged
from control_plane.fleet.model import HostUnknown, IdcUnknown
from control_plane.tenants.access import Permission, Principal


class TenantDirectory(Protocol):
    async def ids_of(self, names: Collection[str]) -> Mapping[str, str]: ...

    async def names_of(self, ids: Collection[str]) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class ScopePolicy:
    """`name`: of the IDC or tenant, idc/name of a host; empty for the platform."""

    kind: ScopeKind
    name: str
    policy: LimitPolicy


class LimitService:
    def __init__(self, database: Database, tenants: TenantDirectory) -> None:
        self._database = database
        self._tenants = tenants

    async def everything(self, principal: Principal) -> list[ScopePolicy]:
        """What the principal may see: platform first, then IDCs, hosts and tenants, by name."""
        principal.require(Permission.PLATFORM_READ)
        async with self._database.reading() as connection:
            policies = await store.all_policies(connection)
            names = {ScopeKind.PLATFORM: {"": ""}, ScopeKind.IDC: await store_idcs.names_by_id(connection)}
            hosts = await store_members.hosts_by_id(connection, _targets(policies, ScopeKind.HOST))
        names[ScopeKind.HOST] = {host.id: f"{host.idc}/{host.name}" for host in hosts if host.revoked_at is None}
        names[ScopeKind.TENANT] = dict(await self._tenants.names_of(_targets(policies, ScopeKind.TENANT)))
        found = [
            ScopePolicy(scope.kind, name, policy)
            for scope, policy in policies.items()
            if (name := names[scope.kind].get(scope.target_id)) is not None
            and (scope.kind is not ScopeKind.TENANT or principal.may(Permission.TENANT_READ, name))
        ]
        order = list(ScopeKind)
        return sorted(found, key=lambda one: (order.index(one.kind), one.name))

    async def get(self, principal: Principal, kind: ScopeKind, name: str) -> ScopePolicy:
        """An empty policy where nothing was said. Raises `IdcUnknown`, `HostUnknown` and `NotFound`."""
        principal.require(Permission.PLATFORM_READ)
        if kind is ScopeKind.TENANT:
            principal.require(Permission.TENANT_READ, name)
        scope = await self._scope(kind, name)
        async with self._database.reading() as connection:
            policies = await store.all_policies(connection)
        return ScopePolicy(kind, name, policies.get(scope, LimitPolicy()))

    async def put(self, principal: Principal, kind: ScopeKind, name: str, policy: LimitPolicy) -> ScopePolicy:
        """An empty policy takes it back. Raises `LimitInvalid`, `IdcUnknown`, `HostUnknown`, `NotFound`; then nothing
        changed.
        """
        principal.require(Permission.PLATFORM_MANAGE)
        check_for(kind, policy)
        scope = await self._scope(kind, name)
        async with self._database.transaction() as unit:
            if policy.empty:
                await store.remove(unit.connection, scope)
            else:
                await store.put(unit.connection, scope, policy, unit.clock.now())
            await unit.announce(LimitsChanged(kind.value, scope.target_id))
        return ScopePolicy(kind, name, policy)

    async def _scope(self, kind: ScopeKind, name: str) -> Scope:
        if kind is ScopeKind.PLATFORM:
            return Scope(kind)
        if kind is ScopeKind.TENANT:
            tenant_id = (await self._tenants.ids_of([name])).get(name)
            if tenant_id is None:
                raise NotFound(f"there is no tenant {name[:80]!r}", action="check `longshore tenant list`")
            return Scope(kind, tenant_id)
        if kind is ScopeKind.HOST:
            idc_name, _, host_name = name.partition("/")
            async with self._database.reading() as connection:
                host = await store_members.find_by_name(connection, "host", idc_name, host_name)
            if host is None or host.revoked_at is not None:
                raise HostUnknown(f"there is no host {name[:130]!r}", action="see `longshore host list`")
            return Scope(kind, host.id)
        async with self._database.reading() as connection:
            idc = await store_idcs.find_idc(connection, name)
        if idc is None:
            raise IdcUnknown(f"there is no IDC {name[:80]!r}", action="see `longshore idc list`")
        return Scope(kind, idc.id)


def _targets(policies: Policies, kind: ScopeKind) -> set[str]:
    return {scope.target_id for scope in policies if scope.kind is kind}
