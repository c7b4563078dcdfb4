"""HTTP for quota."""

from __future__ import annotations

from fastapi import APIRouter

from control_plane.registry.quota.schemas import DriftView, LimitsBody, QuotaView
from control_plane.registry.quota.service import QuotaService
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery


class QuotaRoutes:
    def __init__(self, quota: QuotaService) -> None:
        self._quota = quota

    def add_to(self, router: APIRouter) -> None:
        tenant, user = "/api/v1/tenants/{name}/quota", "/api/v1/users/{name}/quota"
        router.add_api_route("/api/v1/quotas", self.list, methods=["GET"], tags=["quota"])
        router.add_api_route(tenant, self.of_tenant, methods=["GET"], tags=["quota"])
        router.add_api_route(tenant, self.limit_tenant, methods=["PUT"], tags=["quota"])
        router.add_api_route(tenant, self.unlimit_tenant, methods=["DELETE"], tags=["quota"])
        router.add_api_route(f"{tenant}/recalculation", self.recalculate_tenant, methods=["POST"], tags=["quota"])
        router.add_api_route(user, self.of_user, methods=["GET"], tags=["quota"])
        router.add_api_route(user, self.limit_user, methods=["PUT"], tags=["quota"])
        router.add_api_route(user, self.unlimit_user, methods=["DELETE"], tags=["quota"])
        router.add_api_route(f"{user}/recalculation", self.recalculate_user, methods=["POST"], tags=["quota"])

    async def list(self, principal: CurrentPrincipal, page: PageQuery) -> Listing[QuotaView]:
        """Limits and use of every tenant that one may see, by name."""
        return Listing[QuotaView].of(await self._quota.of_tenants(principal, page), QuotaView.of)

    async def of_tenant(self, principal: CurrentPrincipal, name: str) -> Envelope[QuotaView]:
        """Limits and use of a tenant."""
        return Envelope(data=QuotaView.of(await self._quota.of_tenant(principal, name)))

    async def limit_tenant(self, principal: CurrentPrincipal, name: str, body: LimitsBody) -> Envelope[QuotaView]:
        """Give a tenant limits of its own."""
        return Envelope(data=QuotaView.of(await self._quota.limit_tenant(principal, name, body.limits())))

    async def unlimit_tenant(self, principal: CurrentPrincipal, name: str) -> Envelope[QuotaView]:
        """Put a tenant back to the platform's defaults."""
        return Envelope(data=QuotaView.of(await self._quota.limit_tenant(principal, name, None)))

    async def recalculate_tenant(self, principal: CurrentPrincipal, name: str) -> Envelope[DriftView]:
        """Count everything anew beside those who push; what was wrong is told and mended."""
        return Envelope(data=DriftView.of(await self._quota.recalculate_tenant(principal, name)))

    async def of_user(self, principal: CurrentPrincipal, name: str) -> Envelope[QuotaView]:
        """Limits and use of a user over all tenants: one's own, or for the platform's administrators anybody's."""
        return Envelope(data=QuotaView.of(await self._quota.of_user(principal, name)))

    async def limit_user(self, principal: CurrentPrincipal, name: str, body: LimitsBody) -> Envelope[QuotaView]:
        """Give a user limits of their own."""
        return Envelope(data=QuotaView.of(await self._quota.limit_user(principal, name, body.limits())))

    async def unlimit_user(self, principal: CurrentPrincipal, name: str) -> Envelope[QuotaView]:
        """Put a user back to the platform's defaults."""
        return Envelope(data=QuotaView.of(await self._quota.limit_user(principal, name, None)))

    async def recalculate_user(self, principal: CurrentPrincipal, name: str) -> Envelope[DriftView]:
        """Count everything anew beside those who push; what was wrong is told and mended."""
        return Envelope(data=DriftView.of(await self._quota.recalculate_user(principal, name)))


def build_router(quota: QuotaService) -> APIRouter:
    """Every route of quota, with its whole path."""
    router = APIRouter()
    QuotaRoutes(quota).add_to(router)
    return router
