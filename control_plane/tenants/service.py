"""Tenants and who belongs to them.

Invariant: a tenant that had an admin keeps one; a tenant with content is not deleted. Who holds content is above us, so
`app` hands in the questions (`TenantInUse`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from common.clock import Clock
from common.errors import Conflict, NotFound
from common.identifiers import new_id
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, UnitOfWork
from control_plane.tenants import robot_store, store, user_store
from control_plane.tenants.access import Permission, Principal, Role
from control_plane.tenants.accounts import UserUnknown
from control_plane.tenants.acting import act_of
from control_plane.tenants.directory import TenantDirectory, TenantUnknown
from control_plane.tenants.messages import MemberChanged, TenantCreated, TenantDeleted
from control_plane.tenants.model import Member, Tenant, User, check_tenant_name
from control_plane.tenants.robot_keys import RobotKeys
from control_plane.tenants.standings import Standings
from control_plane.web.paging import Page, PageRequest


class TenantExists(Conflict):
    code = "tenant_exists"


class TenantNotEmpty(Conflict):
    code = "tenant_not_empty"


class LastTenantAdmin(Conflict):
    code = "last_tenant_admin"


class MemberUnknown(NotFound):
    code = "member_unknown"


class TenantInUse(Protocol):
    """A higher domain says what it holds of a tenant, in words for people (`3 repositories`); None if nothing."""

    async def __call__(self, unit: UnitOfWork, tenant_id: str) -> str | None: ...


class TenantService:
    def __init__(
        self,
        database: Database,
        clock: Clock,
        standings: Standings,
        directory: TenantDirectory,
        robot_keys: RobotKeys,
        trail: AuditTrail,
        in_use: Sequence[TenantInUse] = (),
    ) -> None:
        self._trail = trail
        self._database = database
        self._clock = clock
        self._standings = standings
        self._directory = directory
        self._robot_keys = robot_keys
        self._in_use = tuple(in_use)

    async def create(self, principal: Principal, name: str, display_name: str = "") -> Tenant:
        """Raises `Denied`, `TenantNameInvalid`, `TenantExists`."""
        principal.require(Permission.PLATFORM_MANAGE)
        tenant = Tenant(new_id(self._clock), check_tenant_name(name), display_name or name, self._clock.now())
        async with self._database.transaction() as unit:
            if not await store.add_tenant(unit.connection, tenant):
                raise TenantExists(f"there is a tenant {name!r} already", action="choose another name")
            await unit.announce(TenantCreated(tenant.id, tenant.name))
            self._trail.record(unit, act_of(principal, "tenants.tenant_created", tenant=name))
        return tenant

    async def list(self, principal: Principal, page: PageRequest) -> Page[Tenant]:
        """The platform admin's list is whole; everybody else's holds the tenants where they may read."""
        principal.require(Permission.PLATFORM_READ)
        names = None
        if not principal.platform_admin:
            names = [name for name in principal.roles if principal.may(Permission.TENANT_READ, name)]
        async with self._database.reading() as connection:
            return await store.list_tenants(connection, names, page)

    async def get(self, principal: Principal, name: str) -> Tenant:
        """Raises `TenantUnknown`, also for a tenant that is not the principal's."""
        principal.require(Permission.TENANT_READ, name)
        async with self._database.reading() as connection:
            tenant = await store.find_tenant(connection, name)
        if tenant is None:
            raise _unknown(name)
        return tenant

    async def delete(self, principal: Principal, name: str) -> None:
        """Raises `TenantUnknown`, `Denied`, `TenantNotEmpty`."""
        principal.require(Permission.TENANT_READ, name)
        principal.require(Permission.PLATFORM_MANAGE)
        async with self._database.transaction() as unit:
            tenant = await self._locked(unit, name)
            held = [what for ask in self._in_use if (what := await ask(unit, tenant.id)) is not None]
            former = await store.member_ids(unit.connection, tenant.id)
            keys = await robot_store.key_ids_in(unit.connection, tenant.id)
            # The database has the last word: what was added since we asked refers to the row.
            if held or not await store.remove_tenant(unit.connection, tenant.id):
                raise TenantNotEmpty(
                    f"the tenant {name} still holds {', '.join(held) or 'something'}", action="delete that first"
                )
            await unit.announce(TenantDeleted(tenant.id, tenant.name))
            self._trail.record(unit, act_of(principal, "tenants.tenant_deleted", tenant=name))
        await self._directory.forget(name)
        await self._standings.forget(former)
        await self._robot_keys.forget(keys)

    async def members(self, principal: Principal, name: str, page: PageRequest) -> Page[Member]:
        """Raises `TenantUnknown`."""
        tenant = await self.get(principal, name)
        async with self._database.reading() as connection:
            return await store.list_members(connection, tenant.id, page)

    async def put_member(self, principal: Principal, name: str, username: str, role: Role) -> Member:
        """Give a user a role, in place of any it had. Raises `TenantUnknown`, `UserUnknown`, `LastTenantAdmin`."""
        principal.require(Permission.TENANT_MANAGE, name)
        member = Member(username, role, self._clock.now())
        async with self._database.transaction() as unit:
            tenant, user = await self._locked(unit, name), await self._user(unit, username)
            if role is not Role.ADMIN:
                await self._keep_an_admin(unit, tenant, user)
            await store.put_member(unit.connection, tenant.id, user.id, member)
            await unit.announce(MemberChanged(tenant.id, user.id, role.value))
            told = {"role": role.value}
            act = act_of(principal, "tenants.member_put", tenant=name, subject=username, details=told)
            self._trail.record(unit, act)
        await self._standings.forget([user.id])
        return member

    async def remove_member(self, principal: Principal, name: str, username: str) -> None:
        """Raises `TenantUnknown`, `MemberUnknown`, `LastTenantAdmin`."""
        principal.require(Permission.TENANT_MANAGE, name)
        async with self._database.transaction() as unit:
            tenant, user = await self._locked(unit, name), await self._user(unit, username)
            if await store.find_role(unit.connection, tenant.id, user.id) is None:
                raise MemberUnknown(f"{username} is no member of {name}", action="list the members")
            await self._keep_an_admin(unit, tenant, user)
            await store.remove_member(unit.connection, tenant.id, user.id)
            await unit.announce(MemberChanged(tenant.id, user.id, None))
            self._trail.record(unit, act_of(principal, "tenants.member_removed", tenant=name, subject=username))
        await self._standings.forget([user.id])

    async def _keep_an_admin(self, unit: UnitOfWork, tenant: Tenant, user: User) -> None:
        if await store.find_role(unit.connection, tenant.id, user.id) is not Role.ADMIN:
            return
        if await store.count_admins(unit.connection, tenant.id, user.id) == 0:
            raise LastTenantAdmin(
                f"{user.name} is the last admin of {tenant.name}", action="make another member admin first"
            )

    async def _locked(self, unit: UnitOfWork, name: str) -> Tenant:
        tenant = await store.find_tenant(unit.connection, name, lock=True)
        if tenant is None:
            raise _unknown(name)
        return tenant

    async def _user(self, unit: UnitOfWork, name: str) -> User:
        user = await user_store.find_user(unit.connection, name)
        if user is None:
            raise UserUnknown(f"there is no user {name[:80]!r}", action="ask the platform admin to create it")
        return user


def _unknown(name: str) -> TenantUnknown:
    return TenantUnknown(f"there is no tenant {name[:80]!r}", action="check the name with `longshore tenant list`")
