"""HTTP for everybody's own registry logins."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from control_plane.tenants.access import Permission
from control_plane.tenants.model import RegistryLogin
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.tenants.registry_logins import RegistryLogins
from control_plane.web.envelope import Listing
from control_plane.web.paging import PageQuery


class RegistryLoginView(BaseModel):
    """`key_id`: the API key that it was made with; it ends with that."""

    id: str
    client: str
    key_id: str | None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None

    @classmethod
    def of(cls, login: RegistryLogin) -> RegistryLoginView:
        return cls(
            id=login.id,
            client=login.client,
            key_id=login.key_id,
            created_at=login.created_at,
            expires_at=login.expires_at,
            last_used_at=login.last_used_at,
        )


class RegistryLoginRoutes:
    def __init__(self, logins: RegistryLogins) -> None:
        self._logins = logins

    def add_to(self, router: APIRouter) -> None:
        path = "/api/v1/registry-logins"
        router.add_api_route(path, self.list, methods=["GET"], tags=["registry-logins"])
        router.add_api_route(
            f"{path}/{{login_id}}", self.end, methods=["DELETE"], tags=["registry-logins"], status_code=204
        )

    async def list(
        self,
        principal: CurrentPrincipal,
        page: PageQuery,
        user: Annotated[str | None, Query(max_length=64, description="whose; for the platform admin")] = None,
    ) -> Listing[RegistryLoginView]:
        """What `docker login` and the like keep in place of a password, newest first."""
        principal.require(Permission.PLATFORM_READ)
        return Listing[RegistryLoginView].of(await self._logins.list(principal, page, user), RegistryLoginView.of)

    async def end(self, principal: CurrentPrincipal, login_id: str) -> None:
        """No more tokens for it. Those it has made live on for at most fifteen minutes."""
        principal.require(Permission.PLATFORM_READ)
        await self._logins.end(principal, login_id)
