"""Declaring mirrors. The administrators of a tenant do; its members may look, and nobody sees a password again.

What a mirror stands for does not change: else who may change it could have its credentials sent to a registry of their
own. Credentials and freshness do; for the rest it is removed and declared anew, and what it holds stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from common.clock import Clock
from common.identifiers import new_id
from common.reference import check_repository_name
from control_plane.database import Database, UnitOfWork
from control_plane.registry.collaborators import TenantDirectory, tenant_id_of
from control_plane.registry.mirroring import store
from control_plane.registry.mirroring.directory import MirrorDirectory
from control_plane.registry.mirroring.failures import MirrorExists, MirrorUnknown, UpstreamInvalid
from control_plane.registry.mirroring.model import Mirror, parse_upstream
from control_plane.sealing import SealedBox
from control_plane.tenants.access import Permission, Principal
from control_plane.web.outbound import Outbound, trusting
from control_plane.web.paging import Page, PageRequest


@dataclass(frozen=True, slots=True)
class MirrorPlan:
    """What is asked for; `upstream` as people write it."""

    name: str
    upstream: str
    tag_ttl_seconds: int
    username: str = ""
    password: str = field(default="", repr=False)
    ca_pem: str = ""
    auth_hosts: Sequence[str] = ()


class MirrorService:
    def __init__(
        self,
        database: Database,
        tenants: TenantDirectory,
        box: SealedBox,
        outbound: Outbound,
        directory: MirrorDirectory,
        clock: Clock,
    ) -> None:
        self._database = database
        self._tenants = tenants
        self._box = box
        self._outbound = outbound
        self._directory = directory
        self._clock = clock

    async def create(self, principal: Principal, plan: MirrorPlan) -> Mirror:
        """Raises `Denied`, `NotFound`, `NameInvalid`, `UpstreamInvalid`, `UrlInvalid`, `AddressRefused`,
        `MirrorExists` (also if something was pushed there).
        """
        name = check_repository_name(plan.name)
        principal.require(Permission.TENANT_MANAGE, name.partition("/")[0])
        upstream = parse_upstream(plan.upstream)
        self._outbound.check(upstream.url)
        for host in plan.auth_hosts:
            self._outbound.check(f"https://{host}/")
        trusting(plan.ca_pem)
        mirror = Mirror(
            mirror_id=new_id(self._clock),
            tenant_id=await tenant_id_of(self._tenants, name),
            name=name,
            upstream=upstream,
            username=plan.username,
            ca_pem=plan.ca_pem,
            auth_hosts=tuple(host.lower() for host in plan.auth_hosts),
            tag_ttl_seconds=plan.tag_ttl_seconds,
            created_at=self._clock.now(),
        )
        mirror = self._sealed(mirror, plan.username, plan.password)
        async with self._database.transaction() as unit:
            await self._check_free(unit, mirror)
            if not await store.add(unit.connection, mirror):
                raise _taken(name, name)
        self._directory.forget(mirror.tenant)
        return mirror

    async def change(
        self,
        principal: Principal,
        name: str,
        tag_ttl_seconds: int | None = None,
        credentials: tuple[str, str] | None = None,
    ) -> Mirror:
        """`credentials`: user name and password, both empty for none. Raises `Denied`, `NotFound`, `MirrorUnknown`."""
        principal.require(Permission.TENANT_MANAGE, name.partition("/")[0])
        async with self._database.transaction() as unit:
            mirror = await store.find(unit.connection, name, hold=True)
            if mirror is None:
                raise _unknown(name)
            if tag_ttl_seconds is not None:
                mirror = replace(mirror, tag_ttl_seconds=tag_ttl_seconds)
            if credentials is not None:
                mirror = self._sealed(mirror, *credentials)
            await store.change(unit.connection, mirror)
        self._directory.forget(mirror.tenant)
        return mirror

    async def remove(self, principal: Principal, name: str) -> None:
        """What it holds stays, as repositories like any other. Raises `Denied`, `NotFound`, `MirrorUnknown`."""
        principal.require(Permission.TENANT_MANAGE, name.partition("/")[0])
        async with self._database.transaction() as unit:
            mirror = await store.find(unit.connection, name, hold=True)
            if mirror is None:
                raise _unknown(name)
            await store.remove(unit.connection, mirror.mirror_id)
        self._directory.forget(mirror.tenant)

    async def get(self, principal: Principal, name: str) -> Mirror:
        """Raises `Denied`, `NotFound`, `MirrorUnknown`."""
        principal.require(Permission.TENANT_READ, name.partition("/")[0])
        async with self._database.reading() as connection:
            mirror = await store.find(connection, name)
        if mirror is None:
            raise _unknown(name)
        return mirror

    async def list(self, principal: Principal, tenant: str | None, page: PageRequest) -> Page[Mirror]:
        """Of one tenant, or of all that the principal may see."""
        if tenant is not None:
            principal.require(Permission.TENANT_READ, tenant)
        tenants = [tenant] if tenant is not None else _readable(principal)
        async with self._database.reading() as connection:
            found, total = await store.page(connection, tenants, page.offset, page.limit)
        return Page(found, total, page)

    async def check(self, principal: Principal, name: str) -> Mirror:
        """Ask the upstream whether it lets the mirror in. Raises what it fails with, and like `change`."""
        principal.require(Permission.TENANT_MANAGE, name.partition("/")[0])
        mirror = await self.get(principal, name)
        await self._directory.client(mirror).ping()
        return mirror

    async def tenant_goes(self, unit: UnitOfWork, tenant_id: str) -> str | None:
        """For `tenants`, which asks before it deletes one: mirrors go with their tenant and do not keep it."""
        await store.remove_of_tenant(unit.connection, tenant_id)
        return None

    async def _check_free(self, unit: UnitOfWork, mirror: Mirror) -> None:
        for other in await store.of_tenant(unit.connection, mirror.tenant):
            if f"{other.name}/".startswith(f"{mirror.name}/") or f"{mirror.name}/".startswith(f"{other.name}/"):
                raise _taken(mirror.name, other.name)
        pushed = await store.repositories_beneath(unit.connection, mirror.name)
        if pushed:
            raise MirrorExists(
                f"there are repositories at {mirror.name} already: {', '.join(pushed)}",
                action="choose another name, or delete them first",
            )

    def _sealed(self, mirror: Mirror, username: str, password: str) -> Mirror:
        if password and not username:
            raise UpstreamInvalid("there is a password without a user name", action="give both")
        sealed = self._box.seal(password.encode(), mirror.seal_identity) if username else None
        return replace(mirror, username=username, sealed=sealed)


def _readable(principal: Principal) -> Sequence[str] | None:
    if principal.platform_admin:
        return None
    roles: Mapping[str, object] = principal.roles
    return sorted(tenant for tenant in roles if principal.may(Permission.TENANT_READ, tenant))


def _taken(name: str, by: str) -> MirrorExists:
    return MirrorExists(f"{name} overlaps with the mirror {by}", action="choose a name beside it, or remove that one")


def _unknown(name: str) -> MirrorUnknown:
    return MirrorUnknown(f"there is no mirror {name[:120]}", action="see `longshore mirror list`")
