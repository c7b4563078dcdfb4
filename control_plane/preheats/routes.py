"""`/api/v1/preheats`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, status

from control_plane.preheats.reading import PreheatReading
from control_plane.preheats.schemas import (
    HostProgressBody,
    PreheatBody,
    PreheatShown,
    host_progress_body,
    preheat_shown,
)
from control_plane.preheats.service import PreheatService
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery

_Ended = Annotated[bool, Query(description="also those that are over")]


def build_router(service: PreheatService, reading: PreheatReading) -> APIRouter:
    router = APIRouter(prefix="/api/v1/preheats", tags=["preheats"])

    @router.post("", status_code=status.HTTP_201_CREATED)
    async def create(principal: CurrentPrincipal, body: PreheatBody) -> Envelope[PreheatShown]:
        """Bring an image near hosts before anybody asks for it. A tag is resolved now and not looked at again."""
        made = await service.create(principal, body.request())
        return Envelope[PreheatShown](data=preheat_shown(await reading.get(principal, made)))

    @router.get("")
    async def listed(principal: CurrentPrincipal, page: PageQuery, ended: _Ended = False) -> Listing[PreheatShown]:
        """Preheats of the tenants that one may see, newest first."""
        return Listing[PreheatShown].of(await reading.page(principal, page, ended=ended), preheat_shown)

    @router.get("/{preheat_id}")
    async def one(principal: CurrentPrincipal, preheat_id: str) -> Envelope[PreheatShown]:
        """One preheat, with how far each data centre is."""
        return Envelope[PreheatShown](data=preheat_shown(await reading.get(principal, preheat_id)))

    @router.get("/{preheat_id}/hosts")
    async def hosts(principal: CurrentPrincipal, preheat_id: str, page: PageQuery) -> Listing[HostProgressBody]:
        """The hosts that it chose, with what each holds and where that came from."""
        found = await reading.hosts(principal, preheat_id, page)
        return Listing[HostProgressBody].of(found, host_progress_body)

    @router.delete("/{preheat_id}", status_code=status.HTTP_204_NO_CONTENT)
    async def cancel(principal: CurrentPrincipal, preheat_id: str) -> None:
        """End it: what only it wanted may go everywhere. Harmless to repeat."""
        await service.cancel(principal, preheat_id)

    return router
