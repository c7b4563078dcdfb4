"""Showing accounts and setting limits: the use cases of quota."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from common.errors import Denied, Unauthenticated
from control_plane.database import Database
from control_plane.registry.quota import store
from control_plane.registry.quota.ledger import Ledger
from control_plane.registry.quota.messages import QuotaChanged
from control_plane.registry.quota.meter import QuotaMeter
from control_plane.registry.quota.model import Account, Drift, Kind, Limits, Subject
from control_plane.registry.quota.recount import Recount
from control_plane.tenants.access import Permission, Principal
from control_plane.tenants.model import Tenant, User
from control_plane.web.paging import Page, PageRequest


class Tenants(Protocol):
    """`tenants` has it."""

    async def get(self, principal: Principal, name: str) -> Tenant: ...

    async def list(self, principal: Principal, page: PageRequest) -> Page[Tenant]: ...


class Users(Protocol):
    """`tenants` has it; for platform administrators only."""

    async def get(self, principal: Principal, name: str) -> User: ...


@dataclass(frozen=True, slots=True)
class Named:
    """An account with the name that people know its subject by."""

    name: str
    account: Account


class QuotaService:
    def __init__(
        self, database: Database, ledger: Ledger, meter: QuotaMeter, recount: Recount, tenants: Tenants, users: Users
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._meter = meter
        self._recount = recount
        self._tenants = tenants
        self._users = users

    async def of_tenant(self, principal: Principal, name: str) -> Named:
        """Raises `Denied`, `NotFound`."""
        return Named(name, await self._account(await self._tenant(principal, name)))

    async def of_user(self, principal: Principal, name: str) -> Named:
        """One's own, or a platform administrator's look at anybody's. Raises `Denied`, `NotFound`."""
        if principal.anonymous:
            raise Unauthenticated("this needs a login", action="log in with `longshore login`")
        if principal.name == name and principal.user_id is not None:
            return Named(name, await self._account(Subject(Kind.USER, principal.user_id)))
        return Named(name, await self._account(await self._user(principal, name)))

    async def of_tenants(self, principal: Principal, page: PageRequest) -> Page[Named]:
        """Of every tenant that one may see, in order of name."""
        tenants = await self._tenants.list(principal, page)
        subjects = [Subject(Kind.TENANT, tenant.id) for tenant in tenants.items]
        accounts = await self._accounts(subjects)
        named = [Named(tenant.name, accounts[each]) for tenant, each in zip(tenants.items, subjects, strict=True)]
        return Page(named, tenants.total_count, page)

    async def limit_tenant(self, principal: Principal, name: str, limits: Limits | None) -> Named:
        """None: back to the defaults. A limit below what is used refuses what grows, and removes nothing.

        Raises `Denied` for everybody but the platform's administrators, `NotFound`.
        """
        principal.require(Permission.PLATFORM_MANAGE)
        return Named(name, await self._limit(await self._tenant(principal, name), limits))

    async def limit_user(self, principal: Principal, name: str, limits: Limits | None) -> Named:
        """Like `limit_tenant`."""
        principal.require(Permission.PLATFORM_MANAGE)
        return Named(name, await self._limit(await self._user(principal, name), limits))

    async def recalculate_tenant(self, principal: Principal, name: str) -> Drift:
        """What was wrong and is mended; nothing, unless the program has a mistake."""
        principal.require(Permission.PLATFORM_MANAGE)
        return await self._recount.recalculate(await self._tenant(principal, name))

    async def recalculate_user(self, principal: Principal, name: str) -> Drift:
        principal.require(Permission.PLATFORM_MANAGE)
        return await self._recount.recalculate(await self._user(principal, name))

    async def _tenant(self, principal: Principal, name: str) -> Subject:
        return Subject(Kind.TENANT, (await self._tenants.get(principal, name)).id)

    async def _user(self, principal: Principal, name: str) -> Subject:
        if not principal.may(Permission.PLATFORM_MANAGE):
            raise Denied(f"{principal.name} may not see the quota of others", action="ask for your own")
        return Subject(Kind.USER, (await self._users.get(principal, name)).id)

    async def _account(self, subject: Subject) -> Account:
        return (await self._accounts([subject]))[subject]

    async def _accounts(self, subjects: Collection[Subject]) -> Mapping[Subject, Account]:
        async with self._database.reading() as connection:
            return await store.find_accounts(connection, subjects, self._ledger.defaults)

    async def _limit(self, subject: Subject, limits: Limits | None) -> Account:
        async with self._database.transaction() as unit:
            await store.hold_accounts(unit.connection, [subject], self._ledger.defaults)
            await store.write_limits(unit.connection, subject, limits)
            changed = await store.hold_accounts(unit.connection, [subject], self._ledger.defaults)
            await self._ledger.warn(unit, changed)
            chosen = limits or Limits()
            await unit.announce(
                QuotaChanged(
                    subject.kind.value,
                    subject.subject_id,
                    limits is not None,
                    chosen.storage_bytes,
                    chosen.images,
                    chosen.image_bytes,
                )
            )
        self._meter.limits_changed()
        return await self._account(subject)
