"""`/api/v1/stores` for the platform's administrators."""

from __future__ import annotations

from fastapi import APIRouter

from common.digest import Digest
from control_plane.registry.stores.schemas import LostView, ScrubRequest, ScrubStartedView, ScrubView, StoreView
from control_plane.registry.stores.service import StoreService
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery


def build_router(service: StoreService) -> APIRouter:
    router = APIRouter(prefix="/api/v1/stores", tags=["stores"])

    @router.get("")
    async def stores(principal: CurrentPrincipal) -> Envelope[list[StoreView]]:
        """The stores, their room, and the copies in them."""
        return Envelope(data=[StoreView.of(each) for each in await service.overview(principal)])

    @router.get("/scrub")
    async def scrub(principal: CurrentPrincipal) -> Envelope[ScrubView]:
        """How far the copies have been read, and what was found."""
        return Envelope(data=ScrubView.of(await service.scrub_overview(principal)))

    @router.post("/scrub", status_code=202)
    async def start(principal: CurrentPrincipal, request: ScrubRequest) -> Envelope[ScrubStartedView]:
        """Read copies now: of one blob, of a repository's blobs, or whatever is due."""
        digest = Digest.parse(request.digest) if request.digest is not None else None
        return Envelope(data=ScrubStartedView(job=await service.scrub(principal, digest, request.repository)))

    @router.get("/lost")
    async def lost(principal: CurrentPrincipal, page: PageQuery) -> Listing[LostView]:
        """Blobs that repositories need and of which nobody has the bytes. Pushing one again heals it."""
        return Listing[LostView].of(await service.lost(principal, page), LostView.of)

    return router
