"""HTTP for users and API keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from control_plane.tenants.access import Permission
from control_plane.tenants.accounts import AccountService
from control_plane.tenants.api_keys import ApiKeyService
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.tenants.schemas import (
    ApiKeyBody,
    ApiKeyView,
    NewApiKeyView,
    PasswordBody,
    UserBody,
    UserStateBody,
    UserView,
)
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery


class UserRoutes:
    """For the platform admin."""

    def __init__(self, accounts: AccountService) -> None:
        self._accounts = accounts

    def add_to(self, router: APIRouter) -> None:
        one = "/api/v1/users/{username}"
        router.add_api_route("/api/v1/users", self.list, methods=["GET"], tags=["users"])
        router.add_api_route("/api/v1/users", self.create, methods=["POST"], tags=["users"], status_code=201)
        router.add_api_route(one, self.get, methods=["GET"], tags=["users"])
        router.add_api_route(one, self.change, methods=["PATCH"], tags=["users"])
        router.add_api_route(f"{one}/password", self.password, methods=["PUT"], tags=["users"], status_code=204)

    async def list(self, principal: CurrentPrincipal, page: PageQuery) -> Listing[UserView]:
        """Everybody who may log in, or might."""
        principal.require(Permission.PLATFORM_MANAGE)
        return Listing[UserView].of(await self._accounts.list(principal, page), UserView.of)

    async def create(self, principal: CurrentPrincipal, body: UserBody) -> Envelope[UserView]:
        """Make a user. It may nothing until it is a member of a tenant."""
        principal.require(Permission.PLATFORM_MANAGE)
        user = await self._accounts.create(
            principal,
            body.username,
            body.password.get_secret_value(),
            display_name=body.display_name,
            email=body.email,
            platform_admin=body.platform_admin,
        )
        return Envelope(data=UserView.of(user))

    async def get(self, principal: CurrentPrincipal, username: str) -> Envelope[UserView]:
        """One user."""
        principal.require(Permission.PLATFORM_MANAGE)
        return Envelope(data=UserView.of(await self._accounts.get(principal, username)))

    async def change(self, principal: CurrentPrincipal, username: str, body: UserStateBody) -> Envelope[UserView]:
        """Disable or enable a user, make it platform admin or no longer. Its logins end."""
        principal.require(Permission.PLATFORM_MANAGE)
        changed = await self._accounts.set_state(
            principal, username, disabled=body.disabled, platform_admin=body.platform_admin
        )
        return Envelope(data=UserView.of(changed))

    async def password(self, principal: CurrentPrincipal, username: str, body: PasswordBody) -> None:
        """Give a user another password. Its logins end."""
        principal.require(Permission.PLATFORM_MANAGE)
        await self._accounts.set_password(principal, username, body.password.get_secret_value())


class ApiKeyRoutes:
    """For everybody's own keys."""

    def __init__(self, keys: ApiKeyService) -> None:
        self._keys = keys

    def add_to(self, router: APIRouter) -> None:
        router.add_api_route("/api/v1/api-keys", self.list, methods=["GET"], tags=["api-keys"])
        router.add_api_route("/api/v1/api-keys", self.create, methods=["POST"], tags=["api-keys"], status_code=201)
        router.add_api_route(
            "/api/v1/api-keys/{key_id}", self.revoke, methods=["DELETE"], tags=["api-keys"], status_code=204
        )

    async def list(
        self,
        principal: CurrentPrincipal,
        page: PageQuery,
        user: Annotated[str | None, Query(max_length=64, description="whose; for the platform admin")] = None,
    ) -> Listing[ApiKeyView]:
        """Keys that were not revoked, newest first."""
        principal.require(Permission.PLATFORM_READ)
        return Listing[ApiKeyView].of(await self._keys.list(principal, page, user), ApiKeyView.of)

    async def create(self, principal: CurrentPrincipal, body: ApiKeyBody) -> Envelope[NewApiKeyView]:
        """Make a key. It is shown now and never again."""
        principal.require(Permission.PLATFORM_READ)
        made = await self._keys.create(
            principal, body.name, tenant=body.tenant, role=body.role, expires_at=body.expires_at
        )
        return Envelope(data=NewApiKeyView.made(made))

    async def revoke(self, principal: CurrentPrincipal, key_id: str) -> None:
        """End a key at once."""
        principal.require(Permission.PLATFORM_READ)
        await self._keys.revoke(principal, key_id)
