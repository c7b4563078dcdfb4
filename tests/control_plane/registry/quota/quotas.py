"""A registry with quota, the people who set it, and the truth counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry

from common.clock import Clock
from common.errors import NotFound
from control_plane.blobs import BlobStore
from control_plane.database import Database
from control_plane.registry.participants import Hooks, Participant
from control_plane.registry.quota.building import Quota, build_quota
from control_plane.registry.quota.model import Account, Defaults, Kind, Limits, Subject
from control_plane.registry.service import RegistryService
from control_plane.tenants.access import Permission, Principal
from control_plane.tenants.model import Tenant, User
from control_plane.web.paging import Page, PageRequest, page_of
from tests.control_plane.registry.people import PEOPLE, ROOT, Directory

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
ACME = Subject(Kind.TENANT, "t-acme")
BIRCH = Subject(Kind.TENANT, "t-birch")
ADAS = Subject(Kind.USER, "u-ada")
OTTOS = Subject(Kind.USER, "u-otto")
EVERYBODY = (ACME, BIRCH, *(Subject(Kind.USER, each.user_id or "") for each in PEOPLE.values()))


class Tenants:
    async def get(self, principal: Principal, name: str) -> Tenant:
        principal.require(Permission.TENANT_READ, name)
        if name not in ("acme", "birch"):
            raise NotFound(f"there is no tenant {name}", action="check the name")
        return Tenant(f"t-{name}", name, name, MOMENT)

    async def list(self, principal: Principal, page: PageRequest) -> Page[Tenant]:
        return page_of([await self.get(ROOT, name) for name in ("acme", "birch")], page)


class Users:
    async def get(self, principal: Principal, name: str) -> User:
        principal.require(Permission.PLATFORM_MANAGE)
        if name not in PEOPLE:
            raise NotFound(f"there is no user {name}", action="check the name")
        return User(f"u-{name}", name, name, None, "", False, False, 0, MOMENT)


@dataclass(frozen=True)
class Ward:
    """`metrics` is what /metrics shows."""

    database: Database
    registry: RegistryService
    quota: Quota
    metrics: CollectorRegistry

    async def limit(self, limits: Limits | None, tenant: str = "acme") -> None:
        await self.quota.service.limit_tenant(ROOT, tenant, limits)

    async def limit_user(self, limits: Limits | None, user: str = "ada") -> None:
        await self.quota.service.limit_user(ROOT, user, limits)

    async def account(self, subject: Subject = ACME) -> Account:
        if subject.kind is Kind.TENANT:
            return (await self.quota.service.of_tenant(ROOT, subject.subject_id.removeprefix("t-"))).account
        return (await self.quota.service.of_user(ROOT, subject.subject_id.removeprefix("u-"))).account

    async def check_exact(self) -> None:
        """Nothing is wrong with anybody's account."""
        for subject in EVERYBODY:
            drift = await self.quota.recount.recalculate(subject)
            assert not drift.any, drift


def open_ward(
    database: Database,
    blobs: BlobStore,
    clock: Clock,
    defaults: Defaults | None = None,
    others: Sequence[Participant] = (),
) -> Ward:
    metrics = CollectorRegistry()
    quota = build_quota(database, blobs, Tenants(), Users(), clock, defaults or Defaults(), metrics)
    hooks = Hooks(participants=(quota.book, *others), meter=quota.meter)
    return Ward(database, RegistryService(database, blobs, Directory("acme", "birch"), clock, hooks), quota, metrics)
