"""`/api/v1/mirrors`: declare what is mirrored, and see whether its upstream lets us in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, status

from control_plane.registry.mirroring.schemas import MirrorChange, MirrorCreate, MirrorView
from control_plane.registry.mirroring.service import MirrorService
from control_plane.tenants.access import Permission
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery

_Tenant = Annotated[str | None, Query(description="only this tenant's", max_length=255)]


def build_router(mirrors: MirrorService) -> APIRouter:
    router = APIRouter(prefix="/api/v1/mirrors", tags=["mirrors"])

    @router.get("")
    async def list_mirrors(principal: CurrentPrincipal, page: PageQuery, tenant: _Tenant = None) -> Listing[MirrorView]:
        """In order of name."""
        principal.require(Permission.PLATFORM_READ)
        return Listing.of(await mirrors.list(principal, tenant, page), MirrorView.of)

    @router.post("", status_code=status.HTTP_201_CREATED)
    async def create_mirror(principal: CurrentPrincipal, body: MirrorCreate) -> Envelope[MirrorView]:
        """From now on the repositories beneath the name show what the upstream has. Nothing may be there yet."""
        principal.require(Permission.PLATFORM_READ)
        return Envelope(data=MirrorView.of(await mirrors.create(principal, body.to_plan())))

    # `/-/` ends the name, as no component of a name can be "-".
    @router.post("/{name:path}/-/check")
    async def check_mirror(principal: CurrentPrincipal, name: str) -> Envelope[MirrorView]:
        """Ask the upstream whether it lets the mirror in."""
        return Envelope(data=MirrorView.of(await mirrors.check(principal, name)))

    @router.get("/{name:path}")
    async def get_mirror(principal: CurrentPrincipal, name: str) -> Envelope[MirrorView]:
        """One mirror, by its name."""
        return Envelope(data=MirrorView.of(await mirrors.get(principal, name)))

    @router.patch("/{name:path}")
    async def change_mirror(principal: CurrentPrincipal, name: str, body: MirrorChange) -> Envelope[MirrorView]:
        """Give it other credentials or another freshness. For another upstream, remove it and declare it anew."""
        changed = await mirrors.change(principal, name, body.tag_ttl_seconds, body.pair)
        return Envelope(data=MirrorView.of(changed))

    @router.delete("/{name:path}", status_code=status.HTTP_204_NO_CONTENT)
    async def remove_mirror(principal: CurrentPrincipal, name: str) -> None:
        """What it holds stays, as repositories like any other."""
        await mirrors.remove(principal, name)

    return router
