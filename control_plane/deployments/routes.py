"""`/api/v1/deployments`, how far a host is drained, and the room on hosts.

Included before the fleet's own routes: a host is named by `idc/name`, so its own route takes any longer path too.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from control_plane.deployments.reading import DeploymentReading
from control_plane.deployments.schemas import (
    DeployBody,
    DeploymentBody,
    DrainBody,
    RoomBody,
    RulesBody,
    deployment_body,
    drain_body,
    room_body,
)
from control_plane.deployments.service import DeploymentService
from control_plane.swarm.schemas import NO_NUL
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery

_Tenant = Annotated[str | None, Query(description="name of a tenant", max_length=300, pattern=NO_NUL)]
_Idc = Annotated[str | None, Query(description="only of this data centre", max_length=63, pattern=NO_NUL)]
_REMOVED: dict[int | str, dict[str, Any]] = {
    202: {"model": Envelope[DeploymentBody], "description": "it goes when its hosts have removed its instances"},
    204: {"description": "it is gone"},
}


def build_router(service: DeploymentService, reading: DeploymentReading) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["deployments"])
    _add_reading(router, reading)
    _add_writing(router, service, reading)
    _add_hosts(router, reading)
    return router


def _add_reading(router: APIRouter, reading: DeploymentReading) -> None:
    @router.get("/deployments")
    async def deployments(
        principal: CurrentPrincipal, page: PageQuery, tenant: _Tenant = None
    ) -> Listing[DeploymentBody]:
        """Deployments of the tenants that one may see, by tenant and name."""
        return Listing[DeploymentBody].of(await reading.page(principal, tenant, page), deployment_body)

    @router.get("/deployments/{deployment:path}")
    async def get(principal: CurrentPrincipal, deployment: str) -> Envelope[DeploymentBody]:
        """One deployment, by its id or by `tenant/name`: what is wanted, where it runs, why some have no place."""
        return Envelope(data=deployment_body(await reading.get(principal, deployment)))


def _add_writing(router: APIRouter, service: DeploymentService, reading: DeploymentReading) -> None:
    @router.post("/deployments", status_code=201)
    async def create(principal: CurrentPrincipal, body: DeployBody) -> Envelope[DeploymentBody]:
        """Ask for so many instances, by rules. The answer says where they go, or why they have no place yet."""
        made = await service.create(principal, body.deployment())
        return Envelope(data=deployment_body(await reading.get(principal, made)))

    @router.put("/deployments/{deployment_id}/rules")
    async def place(principal: CurrentPrincipal, deployment_id: str, body: RulesBody) -> Envelope[DeploymentBody]:
        """How many and where, from now on; all rules at once. What fits where it is stays."""
        await service.place(principal, deployment_id, body.rules())
        return Envelope(data=deployment_body(await reading.get(principal, deployment_id)))

    @router.delete("/deployments/{deployment_id}", status_code=202, response_model=None, responses=_REMOVED)
    async def remove(principal: CurrentPrincipal, deployment_id: str) -> Envelope[DeploymentBody] | Response:
        """202: it goes when its hosts have removed its instances. 204: it is gone."""
        if await service.remove(principal, deployment_id):
            return Response(status_code=204)
        return Envelope(data=deployment_body(await reading.get(principal, deployment_id)))


def _add_hosts(router: APIRouter, reading: DeploymentReading) -> None:
    @router.get("/hosts/{host:path}/drain")
    async def drain(principal: CurrentPrincipal, host: str) -> Envelope[DrainBody]:
        """What is on a host, and whether each instance moves, waits, or stays and why."""
        return Envelope(data=drain_body(await reading.drain(principal, host)))

    @router.get("/room")
    async def room(principal: CurrentPrincipal, page: PageQuery, idc: _Idc = None) -> Listing[RoomBody]:
        """What each host has for instances, and how much of it is promised."""
        return Listing[RoomBody].of(await reading.room(principal, idc, page), room_body)
