"""`GET /api/v1/images`: what one may pull, and nothing else."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from common.errors import Unauthenticated
from control_plane.catalogue.schemas import ImageView
from control_plane.registry.grants import Filter, Order, Visibility
from control_plane.registry.service import RegistryService
from control_plane.tenants.access import Permission, Principal
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Listing
from control_plane.web.paging import PageQuery, PageRequest

# Control characters are in no name, and PostgreSQL refuses NUL in text.
_PLAIN = r"^[^\x00-\x1f\x7f]*$"


def build_router(registry: RegistryService) -> APIRouter:
    router = APIRouter(prefix="/api/v1/images", tags=["images"])

    @router.get("")
    async def list_images(
        principal: CurrentPrincipal,
        page: PageQuery,
        tenant: Annotated[
            str | None, Query(max_length=64, pattern=_PLAIN, description="only this tenant's repositories")
        ] = None,
        name: Annotated[
            str | None, Query(max_length=255, pattern=_PLAIN, description="only names that contain this")
        ] = None,
        visibility: Annotated[Visibility | None, Query(description="only public or only private ones")] = None,
        sort: Annotated[Order, Query(description="by what, and in which direction")] = Order.NAME,
    ) -> Listing[ImageView]:
        """Repositories that you may pull from, public ones of others among them, with their tags."""
        if principal.anonymous:
            raise Unauthenticated("this needs a login", action="log in with `longshore login` or send an API key")
        visible = await registry.rights.visible(principal)
        found = await registry.repositories(visible, page, Filter(tenant, name, visibility, sort))
        if tenant is not None and found.total_count == 0 and not principal.may(Permission.IMAGE_PULL, tenant):
            await _require_some(registry, principal, tenant)
        return Listing.of(found, ImageView.of)

    return router


async def _require_some(registry: RegistryService, principal: Principal, tenant: str) -> None:
    """A tenant of which one may pull nothing does not exist for one; of another, the filters left nothing."""
    visible = await registry.rights.visible(principal)
    if not (await registry.repositories(visible, PageRequest(1, 1), Filter(tenant))).total_count:
        principal.require(Permission.IMAGE_PULL, tenant)
