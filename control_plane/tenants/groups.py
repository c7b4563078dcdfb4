"""Groups: users of one tenant, to whom its repositories can be granted together.

Invariant: a group's members are members of the tenant; who leaves the tenant leaves its groups. Being taken out of a
group counts at once: groups are part of a user's standing, which is asked for every request.
"""

from __future__ import annotations

from common.clock import Clock
from common.errors import Conflict, NotFound
from common.identifiers import new_id
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, UnitOfWork
from control_plane.tenants import group_store, store, user_store
from control_plane.tenants.access import Permission, Principal
from control_plane.tenants.acting import act_of
from control_plane.tenants.directory import TenantUnknown
from control_plane.tenants.model import Group, check_group_name
from control_plane.tenants.service import MemberUnknown
from control_plane.tenants.standings import Standings
from control_plane.web.paging import Page, PageRequest


class GroupExists(Conflict):
    code = "group_exists"


class GroupUnknown(NotFound):
    code = "group_unknown"


class GroupService:
    def __init__(self, database: Database, clock: Clock, standings: Standings, trail: AuditTrail) -> None:
        self._trail = trail
        self._database = database
        self._clock = clock
        self._standings = standings

    async def create(self, principal: Principal, tenant: str, name: str) -> Group:
        """Raises `TenantUnknown`, `Denied`, `GroupNameInvalid`, `GroupExists`."""
        principal.require(Permission.TENANT_MANAGE, tenant)
        group = Group(new_id(self._clock), check_group_name(name), (), self._clock.now())
        async with self._database.transaction() as unit:
            tenant_id = await _tenant_id(unit, tenant)
            if not await group_store.add_group(unit.connection, group, tenant_id):
                raise GroupExists(f"{tenant} has a group {name!r} already", action="choose another name")
            self._record(unit, principal, "tenants.group_created", tenant, name)
        return group

    async def list(self, principal: Principal, tenant: str, page: PageRequest) -> Page[Group]:
        """Raises `TenantUnknown`."""
        principal.require(Permission.TENANT_READ, tenant)
        async with self._database.reading() as connection:
            found = await store.find_tenant(connection, tenant)
            if found is None:
                raise _unknown_tenant(tenant)
            return await group_store.list_groups(connection, found.id, page)

    async def delete(self, principal: Principal, tenant: str, name: str) -> None:
        """What was granted to it is granted to nobody then. Raises `TenantUnknown`, `Denied`, `GroupUnknown`."""
        principal.require(Permission.TENANT_MANAGE, tenant)
        async with self._database.transaction() as unit:
            _, group = await _held(unit, tenant, name)
            former = await group_store.member_ids(unit.connection, group.id)
            await group_store.delete_group(unit.connection, group.id)
            self._record(unit, principal, "tenants.group_deleted", tenant, name)
        await self._standings.forget(former)

    async def put_member(self, principal: Principal, tenant: str, name: str, username: str) -> Group:
        """Raises `TenantUnknown`, `Denied`, `GroupUnknown`, `MemberUnknown` for who is not of the tenant."""
        principal.require(Permission.TENANT_MANAGE, tenant)
        async with self._database.transaction() as unit:
            tenant_id, group = await _held(unit, tenant, name)
            user = await user_store.find_user(unit.connection, username)
            if user is None or await store.find_role(unit.connection, tenant_id, user.id) is None:
                raise MemberUnknown(
                    f"{username[:80]} is no member of {tenant}", action=f"give it a role in {tenant} first"
                )
            if await group_store.add_member(unit.connection, group.id, user.id):
                self._record(unit, principal, "tenants.group_joined", tenant, name, username)
            _, changed = await _held(unit, tenant, name)
        await self._standings.forget([user.id])
        return changed

    async def remove_member(self, principal: Principal, tenant: str, name: str, username: str) -> None:
        """Raises `TenantUnknown`, `Denied`, `GroupUnknown`, `MemberUnknown`."""
        principal.require(Permission.TENANT_MANAGE, tenant)
        async with self._database.transaction() as unit:
            _, group = await _held(unit, tenant, name)
            user = await user_store.find_user(unit.connection, username)
            if user is None or not await group_store.remove_member(unit.connection, group.id, user.id):
                raise MemberUnknown(f"{username[:80]} is not in the group {name}", action="list the groups")
            self._record(unit, principal, "tenants.group_left", tenant, name, username)
        await self._standings.forget([user.id])

    def _record(
        self, unit: UnitOfWork, by: Principal, what: str, tenant: str, name: str, username: str | None = None
    ) -> None:
        details = {} if username is None else {"user": username}
        self._trail.record(unit, act_of(by, what, tenant=tenant, subject=name, details=details))


async def _held(unit: UnitOfWork, tenant: str, name: str) -> tuple[str, Group]:
    tenant_id = await _tenant_id(unit, tenant)
    group = await group_store.find_group(unit.connection, tenant_id, name)
    if group is None:
        raise GroupUnknown(
            f"{tenant} has no group {name[:80]!r}", action=f"see the names with `longshore group list {tenant}`"
        )
    return tenant_id, group


async def _tenant_id(unit: UnitOfWork, tenant: str) -> str:
    # Locked, as for changes of membership: nobody leaves the tenant while he is put into one of its groups.
    found = await store.find_tenant(unit.connection, tenant, lock=True)
    if found is None:
        raise _unknown_tenant(tenant)
    return found.id


def _unknown_tenant(name: str) -> TenantUnknown:
    return TenantUnknown(f"there is no tenant {name[:80]!r}", action="check the name with `longshore tenant list`")
