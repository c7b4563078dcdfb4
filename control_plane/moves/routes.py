"""`/api/v1/instances/{id}/migration`, and the list of migrations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, status

from control_plane.moves.model import Move
from control_plane.moves.schemas import MigrationBody, MigrationView, migration_view
from control_plane.moves.service import MoveService
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery

_Open = Annotated[bool, Query(description="only those that have not ended")]


def build_router(service: MoveService) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["migrations"])

    async def shown(move: Move) -> Envelope[MigrationView]:
        return Envelope(data=migration_view(move, await service.labels([move])))

    @router.post("/instances/{instance_id}/migration", status_code=status.HTTP_202_ACCEPTED)
    async def begin(principal: CurrentPrincipal, instance_id: str, body: MigrationBody) -> Envelope[MigrationView]:
        """Move an LXD instance to another host with all that it wrote: it is stopped, copied and started there. Until
        it is well there it can go back, and does if anything fails.
        """
        return await shown(await service.begin(principal, instance_id, body.host, body.within()))

    @router.get("/instances/{instance_id}/migration")
    async def last(principal: CurrentPrincipal, instance_id: str) -> Envelope[MigrationView]:
        """The present migration of an instance, or its last one; outcomes are kept for 30 days."""
        return await shown(await service.get(principal, instance_id))

    @router.delete("/instances/{instance_id}/migration", status_code=status.HTTP_202_ACCEPTED)
    async def cancel(principal: CurrentPrincipal, instance_id: str) -> Envelope[MigrationView]:
        """Take it back; 409 once it runs at the target and is well."""
        return await shown(await service.cancel(principal, instance_id))

    @router.get("/migrations")
    async def migrations(
        principal: CurrentPrincipal, page: PageQuery, open_only: _Open = False
    ) -> Listing[MigrationView]:
        """Newest first."""
        found = await service.page(principal, page, open_only=open_only)
        labels = await service.labels(found.items)
        return Listing[MigrationView].of(found, lambda one: migration_view(one, labels))

    return router
