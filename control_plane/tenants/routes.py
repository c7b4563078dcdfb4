"""HTTP for tenants and their members, and the router that holds every route of this domain."""

from __future__ import annotations

from fastapi import APIRouter

from control_plane.tenants.access import Permission
from control_plane.tenants.account_routes import ApiKeyRoutes, UserRoutes
from control_plane.tenants.auth_routes import AuthRoutes
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.tenants.registry_login_routes import RegistryLoginRoutes
from control_plane.tenants.robot_routes import GroupRoutes, RobotRoutes
from control_plane.tenants.schemas import MemberView, RoleBody, TenantBody, TenantView
from control_plane.tenants.service import TenantService
from control_plane.tenants.tenancy import Tenancy
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery


class TenantRoutes:
    def __init__(self, tenants: TenantService) -> None:
        self._tenants = tenants

    def add_to(self, router: APIRouter) -> None:
        one, members = "/api/v1/tenants/{name}", "/api/v1/tenants/{name}/members"
        router.add_api_route("/api/v1/tenants", self.list, methods=["GET"], tags=["tenants"])
        router.add_api_route("/api/v1/tenants", self.create, methods=["POST"], tags=["tenants"], status_code=201)
        router.add_api_route(one, self.get, methods=["GET"], tags=["tenants"])
        router.add_api_route(one, self.delete, methods=["DELETE"], tags=["tenants"], status_code=204)
        router.add_api_route(members, self.members, methods=["GET"], tags=["tenants"])
        router.add_api_route(f"{members}/{{username}}", self.put_member, methods=["PUT"], tags=["tenants"])
        router.add_api_route(
            f"{members}/{{username}}", self.remove_member, methods=["DELETE"], tags=["tenants"], status_code=204
        )

    async def list(self, principal: CurrentPrincipal, page: PageQuery) -> Listing[TenantView]:
        """The tenants that one may see, by name."""
        principal.require(Permission.PLATFORM_READ)
        return Listing[TenantView].of(await self._tenants.list(principal, page), TenantView.of)

    async def create(self, principal: CurrentPrincipal, body: TenantBody) -> Envelope[TenantView]:
        """Make a tenant. Its repositories are named `name/...`."""
        principal.require(Permission.PLATFORM_MANAGE)
        return Envelope(data=TenantView.of(await self._tenants.create(principal, body.name, body.display_name)))

    async def get(self, principal: CurrentPrincipal, name: str) -> Envelope[TenantView]:
        """One tenant."""
        principal.require(Permission.TENANT_READ, name)
        return Envelope(data=TenantView.of(await self._tenants.get(principal, name)))

    async def delete(self, principal: CurrentPrincipal, name: str) -> None:
        """Remove a tenant that holds nothing any more."""
        principal.require(Permission.TENANT_READ, name)
        await self._tenants.delete(principal, name)

    async def members(self, principal: CurrentPrincipal, name: str, page: PageQuery) -> Listing[MemberView]:
        """Who belongs to the tenant, by name."""
        principal.require(Permission.TENANT_READ, name)
        return Listing[MemberView].of(await self._tenants.members(principal, name, page), MemberView.of)

    async def put_member(
        self, principal: CurrentPrincipal, name: str, username: str, body: RoleBody
    ) -> Envelope[MemberView]:
        """Make a user a member, or give a member another role."""
        principal.require(Permission.TENANT_MANAGE, name)
        return Envelope(data=MemberView.of(await self._tenants.put_member(principal, name, username, body.role)))

    async def remove_member(self, principal: CurrentPrincipal, name: str, username: str) -> None:
        """Take a member's role away."""
        principal.require(Permission.TENANT_MANAGE, name)
        await self._tenants.remove_member(principal, name, username)


def build_router(tenancy: Tenancy) -> APIRouter:
    """Every route of this domain, with its whole path."""
    router = APIRouter()
    AuthRoutes(tenancy.sessions, tenancy.accounts, tenancy.signing_keys).add_to(router)
    UserRoutes(tenancy.accounts).add_to(router)
    ApiKeyRoutes(tenancy.api_keys).add_to(router)
    RegistryLoginRoutes(tenancy.registry_logins).add_to(router)
    TenantRoutes(tenancy.tenants).add_to(router)
    RobotRoutes(tenancy.robots).add_to(router)
    GroupRoutes(tenancy.groups).add_to(router)
    return router
