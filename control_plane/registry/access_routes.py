"""HTTP for what a repository grants: visibility, and grants to users, groups and tenants."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from common.errors import Unauthenticated
from control_plane.registry.access import unknown_repository
from control_plane.registry.granting import GrantService
from control_plane.registry.grants import GranteeKind, GrantRecord, Level, Visibility
from control_plane.tenants.access import Principal
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery

Repository = Annotated[str, Path(max_length=255, description="the full name, tenant/path")]
Grantee = Annotated[str, Path(max_length=64, description="the name of the user, group or tenant")]


class VisibilityBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    visibility: Visibility


class GrantBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    level: Level
    expires_at: AwareDatetime | None = None


class AccessView(BaseModel):
    repository: str
    visibility: Visibility
    actions: Annotated[list[str], Field(description="what you may: pull, push, delete, manage")]


class GrantView(BaseModel):
    kind: GranteeKind
    name: str
    level: Level
    expires_at: AwareDatetime | None
    granted_by: str
    granted_at: AwareDatetime

    @classmethod
    def of(cls, record: GrantRecord) -> GrantView:
        return cls(
            kind=record.kind,
            name=record.name,
            level=record.level,
            expires_at=record.expires_at,
            granted_by=record.granted_by,
            granted_at=record.granted_at,
        )


class AccessRoutes:
    def __init__(self, grants: GrantService) -> None:
        self._grants = grants

    def add_to(self, router: APIRouter) -> None:
        of = "/api/v1/repositories/{repository:path}/-"
        one = f"{of}/grants/{{kind}}/{{name}}"
        router.add_api_route(f"{of}/access", self.access, methods=["GET"], tags=["access"])
        router.add_api_route(f"{of}/access", self.change, methods=["PATCH"], tags=["access"])
        router.add_api_route(f"{of}/grants", self.list, methods=["GET"], tags=["access"])
        router.add_api_route(one, self.put, methods=["PUT"], tags=["access"])
        router.add_api_route(one, self.remove, methods=["DELETE"], tags=["access"], status_code=204)

    async def access(self, principal: CurrentPrincipal, repository: Repository) -> Envelope[AccessView]:
        """Who may pull the repository by its visibility, and what you may."""
        return Envelope(data=await self._view(principal, repository))

    async def change(
        self, principal: CurrentPrincipal, repository: Repository, body: VisibilityBody
    ) -> Envelope[AccessView]:
        """Let everybody pull, also without login (public), or those whom roles and grants let in (private)."""
        _check(principal, repository)
        await self._grants.set_visibility(principal, repository, body.visibility)
        return Envelope(data=await self._view(principal, repository))

    async def list(self, principal: CurrentPrincipal, repository: Repository, page: PageQuery) -> Listing[GrantView]:
        """What is granted to users, groups and tenants beside roles."""
        _check(principal, repository)
        return Listing[GrantView].of(await self._grants.list(principal, repository, page), GrantView.of)

    async def put(
        self, principal: CurrentPrincipal, repository: Repository, kind: GranteeKind, name: Grantee, body: GrantBody
    ) -> Envelope[GrantView]:
        """Grant read, write or admin, in place of what was granted before. Groups are those of the tenant."""
        _check(principal, repository)
        made = await self._grants.put(principal, repository, kind, name, body.level, body.expires_at)
        return Envelope(data=GrantView.of(made))

    async def remove(
        self, principal: CurrentPrincipal, repository: Repository, kind: GranteeKind, name: Grantee
    ) -> None:
        """Take a grant away. Counts at once, for tokens that were made before too."""
        _check(principal, repository)
        await self._grants.remove(principal, repository, kind, name)

    async def _view(self, principal: Principal, repository: str) -> AccessView:
        _check(principal, repository)
        visibility, actions = await self._grants.access(principal, repository)
        return AccessView(repository=repository, visibility=visibility, actions=list(actions))


def build_router(grants: GrantService) -> APIRouter:
    router = APIRouter()
    AccessRoutes(grants).add_to(router)
    return router


def _check(principal: Principal, repository: str) -> None:
    """Public images are pulled without login; what grants there are is for those who have one."""
    if principal.anonymous:
        raise Unauthenticated("this needs a login", action="log in with `longshore login` or send an API key")
    if "\x00" in repository:  # PostgreSQL refuses it in text, and no name has it
        raise unknown_repository(repository)
