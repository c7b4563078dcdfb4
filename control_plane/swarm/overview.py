"""What the swarm shows to people: egress, provenance and orders, each asker its own tenants only."""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.database import Database
from control_plane.swarm import provenance_queries, queries
from control_plane.swarm.egress import EgressCounter
from control_plane.swarm.provenance_queries import ProvenanceRow
from control_plane.swarm.queries import ContentFilter, ContentRow, EgressRow, OrderRow
from control_plane.swarm.visibility import TenantDirectory, visible_tenants
from control_plane.tenants.access import Permission, Principal
from control_plane.web.paging import Page, PageRequest


class SwarmOverview:
    def __init__(self, database: Database, tenants: TenantDirectory, egress: EgressCounter) -> None:
        self._database = database
        self._tenants = tenants
        self._egress = egress

    async def egress(self, principal: Principal, request: PageRequest) -> Page[EgressRow]:
        """Exact for what this replica sent; what others sent is at most one of their flush periods old."""
        principal.require(Permission.PLATFORM_READ)
        visible = await visible_tenants(principal, Permission.TENANT_READ, self._tenants)
        await self._egress.flush()
        async with self._database.reading() as connection:
            return await queries.egress_rows(connection, visible, request)

    async def egress_totals(self, principal: Principal) -> dict[str, int]:
        """Bytes by name of IDC."""
        principal.require(Permission.PLATFORM_READ)
        visible = await visible_tenants(principal, Permission.TENANT_READ, self._tenants)
        await self._egress.flush()
        async with self._database.reading() as connection:
            return await queries.egress_totals(connection, visible)

    async def contents(
        self, principal: Principal, wanted: ContentFilter, request: PageRequest
    ) -> tuple[Page[ContentRow], Mapping[str, str]]:
        """The page, and the names of its tenants by id."""
        principal.require(Permission.PLATFORM_READ)
        visible = await visible_tenants(principal, Permission.TENANT_READ, self._tenants)
        async with self._database.reading() as connection:
            page = await queries.content_rows(connection, visible, wanted, request)
        return page, await self._tenants.names_of({row.tenant_id for row in page.items})

    async def provenance(
        self, principal: Principal, idc: str | None, digest: str | None, request: PageRequest
    ) -> tuple[Page[ProvenanceRow], Mapping[str, str]]:
        """The page, and the names of its tenants by id."""
        principal.require(Permission.PLATFORM_READ)
        visible = await visible_tenants(principal, Permission.TENANT_READ, self._tenants)
        async with self._database.reading() as connection:
            page = await provenance_queries.provenance_rows(connection, visible, idc, digest, request)
        return page, await self._tenants.names_of({row.tenant_id for row in page.items})

    async def orders(
        self, principal: Principal, idc: str | None, request: PageRequest
    ) -> tuple[Page[OrderRow], Mapping[str, str]]:
        """The page, and the names of its tenants by id."""
        principal.require(Permission.PLATFORM_READ)
        visible = await visible_tenants(principal, Permission.TENANT_READ, self._tenants)
        async with self._database.reading() as connection:
            page = await queries.order_rows(connection, visible, idc, request)
        return page, await self._tenants.names_of({row.tenant_id for row in page.items})
