"""`GET /api/v1/images`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from common.errors import Unauthenticated
from control_plane.catalogue.schemas import ImageView
from control_plane.registry.service import RegistryService
from control_plane.tenants.access import Permission
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Listing
from control_plane.web.paging import PageQuery


def build_router(registry: RegistryService) -> APIRouter:
    router = APIRouter(prefix="/api/v1/images", tags=["images"])

    @router.get("")
    async def list_images(
        principal: CurrentPrincipal,
        page: PageQuery,
        tenant: Annotated[str | None, Query(description="only this tenant's repositories")] = None,
    ) -> Listing[ImageView]:
        """Repositories that you may pull from, in order of name, with their tags."""
        if principal.anonymous:
            raise Unauthenticated("this needs a login", action="log in with `longshore login` or send an API key")
        found = await registry.repositories(await registry.rights.visible(principal), page, tenant)
        if tenant is not None and found.total_count == 0:
            principal.require(Permission.IMAGE_PULL, tenant)
        return Listing.of(found, ImageView.of)

    return router
