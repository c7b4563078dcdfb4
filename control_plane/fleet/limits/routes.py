"""`/api/v1/limits`, and the limits of one IDC, host or tenant."""

from __future__ import annotations

from fastapi import APIRouter

from control_plane.fleet.limits.model import ScopeKind
from control_plane.fleet.limits.schemas import LimitsBody, LimitsView, limits_view
from control_plane.fleet.limits.service import LimitService
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope


def build_router(service: LimitService) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["limits"])

    @router.get("/limits")
    async def everything(principal: CurrentPrincipal) -> Envelope[list[LimitsView]]:
        """Every limit that one may see: the platform's, those of data centres, those of tenants."""
        found = await service.everything(principal)
        return Envelope[list[LimitsView]](data=[limits_view(one) for one in found])

    @router.put("/limits")
    async def put_platform(principal: CurrentPrincipal, body: LimitsBody) -> Envelope[LimitsView]:
        """For the links of every data centre that has no limits of its own. An empty body takes them back."""
        return await _put(principal, ScopeKind.PLATFORM, "", body)

    @router.get("/idcs/{name}/limits")
    async def get_idc(principal: CurrentPrincipal, name: str) -> Envelope[LimitsView]:
        """Limits of a data centre's links."""
        return Envelope[LimitsView](data=limits_view(await service.get(principal, ScopeKind.IDC, name)))

    @router.put("/idcs/{name}/limits")
    async def put_idc(principal: CurrentPrincipal, name: str, body: LimitsBody) -> Envelope[LimitsView]:
        """Limits of a data centre's links, instead of the platform's; all of them at once."""
        return await _put(principal, ScopeKind.IDC, name, body)

    @router.get("/hosts/{idc}/{name}/limits")
    async def get_host(principal: CurrentPrincipal, idc: str, name: str) -> Envelope[LimitsView]:
        """Limits of one host's lines."""
        return Envelope[LimitsView](data=limits_view(await service.get(principal, ScopeKind.HOST, f"{idc}/{name}")))

    @router.put("/hosts/{idc}/{name}/limits")
    async def put_host(principal: CurrentPrincipal, idc: str, name: str, body: LimitsBody) -> Envelope[LimitsView]:
        """Limits of one host's lines, instead of its data centre's; all of them at once."""
        return await _put(principal, ScopeKind.HOST, f"{idc}/{name}", body)

    @router.get("/tenants/{name}/limits")
    async def get_tenant(principal: CurrentPrincipal, name: str) -> Envelope[LimitsView]:
        """What one tenant may take of each link."""
        return Envelope[LimitsView](data=limits_view(await service.get(principal, ScopeKind.TENANT, name)))

    @router.put("/tenants/{name}/limits")
    async def put_tenant(principal: CurrentPrincipal, name: str, body: LimitsBody) -> Envelope[LimitsView]:
        """What one tenant may take of each link, in every data centre; all of it at once."""
        return await _put(principal, ScopeKind.TENANT, name, body)

    async def _put(principal: CurrentPrincipal, kind: ScopeKind, name: str, body: LimitsBody) -> Envelope[LimitsView]:
        return Envelope[LimitsView](data=limits_view(await service.put(principal, kind, name, body.policy())))

    return router
