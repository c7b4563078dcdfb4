"""Instances as people see them, each asker its own tenants only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from common.digest import Digest
from common.errors import NotFound
from common.identifiers import is_id
from control_plane.database import Database
from control_plane.instances import views
from control_plane.instances.holdings import holdings_of
from control_plane.instances.model import Instance, InstanceView, Place, Status
from control_plane.instances.views import InstanceFilter, Listed
from control_plane.swarm.model import HostContent
from control_plane.swarm.service import SwarmService
from control_plane.tenants.access import Permission, Principal
from control_plane.web.paging import Page, PageRequest


class InstanceUnknown(NotFound):
    """There is no such instance, or none that the asker may see."""

    code = "instance_unknown"


class InstanceReading:
    def __init__(self, database: Database, swarm: SwarmService) -> None:
        self._database = database
        self._swarm = swarm

    async def get(self, principal: Principal, instance_id: str) -> InstanceView:
        """Raises `InstanceUnknown`, also for those of tenants that the principal may not see."""
        found = await self.shown([instance_id]) if is_id(instance_id) else []
        if not found:
            principal.require(Permission.PLATFORM_READ)
            raise unknown(instance_id)
        require_visible(principal, found[0].instance.tenant, instance_id)
        return found[0]

    async def page(self, principal: Principal, wanted: InstanceFilter, request: PageRequest) -> Page[InstanceView]:
        """Those of `wanted.tenant`, or of every tenant that the principal may see. Raises `NotFound` for another's."""
        principal.require(Permission.PLATFORM_READ)
        if wanted.tenant is not None:
            principal.require(Permission.INSTANCE_READ, wanted.tenant)
        async with self._database.reading() as connection:
            found = await views.page(connection, wanted, readable_tenants(principal), request)
        return Page(await self._with_holdings(found.items), found.total_count, request)

    async def shown(self, instance_ids: Sequence[str]) -> list[InstanceView]:
        """Without a permission check: the caller made it. Those that do not exist are absent."""
        if not instance_ids:
            return []
        async with self._database.reading() as connection:
            found = await views.by_ids(connection, instance_ids)
        return await self._with_holdings(found)

    async def added(self, instances: Mapping[Place, Instance]) -> list[InstanceView]:
        """Those that were put into the database just now, as `shown` would read them: no host can have spoken of them
        before.
        """
        found = [Listed(instance, Status(), place.host, place.idc) for place, instance in instances.items()]
        return await self._with_holdings(found)

    async def running_images(self, repository: str) -> Collection[Digest]:
        """Manifests of the repository that instances of any tenant are made of: what must not be deleted."""
        async with self._database.reading() as connection:
            return await views.manifests_in_use(connection, repository)

    async def _with_holdings(self, found: Sequence[Listed]) -> list[InstanceView]:
        hosts = {listed.instance.host_id for listed in found}
        digests = {content.digest for listed in found for content in listed.instance.image.all_contents()}
        held: dict[str, list[HostContent]] = {}
        for content in await self._swarm.holdings(sorted(hosts), sorted(digests)):
            held.setdefault(content.host_id, []).append(content)
        return [
            InstanceView(
                listed.instance,
                listed.status,
                listed.host,
                listed.idc,
                holdings_of(listed.instance, held.get(listed.instance.host_id, ())),
            )
            for listed in found
        ]


def readable_tenants(principal: Principal) -> list[str] | None:
    """Names; None: every tenant."""
    if principal.platform_admin:
        return None
    return [name for name in principal.roles if principal.may(Permission.INSTANCE_READ, name)]


def require_visible(principal: Principal, tenant: str, instance_id: str) -> None:
    """Another tenant's instance is unknown, not forbidden: its very id tells nothing."""
    if principal.may(Permission.INSTANCE_READ, tenant):
        return
    principal.require(Permission.PLATFORM_READ)
    raise unknown(instance_id)


def unknown(instance_id: str) -> InstanceUnknown:
    return InstanceUnknown(
        f"there is no instance {instance_id[:80]!r}", action="list them with `longshore instance list`"
    )
