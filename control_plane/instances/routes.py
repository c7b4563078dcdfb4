"""`/api/v1/instances` and `/api/v1/status`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from control_plane.instances.overview import FleetOverview, Picture
from control_plane.instances.reading import InstanceReading
from control_plane.instances.schemas import AdoptionBody, InstanceBody, RunBody, instance_body
from control_plane.instances.service import InstanceService
from control_plane.instances.views import InstanceFilter
from control_plane.swarm.schemas import NO_NUL
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery

_Tenant = Annotated[str | None, Query(description="name of a tenant", max_length=300, pattern=NO_NUL)]
_Host = Annotated[str | None, Query(description="id, or idc/name", max_length=300, pattern=NO_NUL)]
_Idc = Annotated[str | None, Query(description="name of a data centre", max_length=300, pattern=NO_NUL)]
_Name = Annotated[str | None, Query(description="name of the instance", max_length=300, pattern=NO_NUL)]
_REMOVED: dict[int | str, dict[str, Any]] = {
    202: {"model": Envelope[InstanceBody], "description": "it goes when its host has removed it"},
    204: {"description": "it is gone"},
}
_Force = Annotated[bool, Query(description="forget it even if its host never answers")]


def build_router(service: InstanceService, reading: InstanceReading, overview: FleetOverview) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["instances"])
    _add_reading(router, reading)
    _add_writing(router, service)

    @router.get("/status", tags=["status"])
    async def status(principal: CurrentPrincipal) -> Envelope[Picture]:
        """The whole fleet in one picture; instances and bytes of the asker's tenants only."""
        return Envelope[Picture](data=await overview.picture(principal))

    return router


def _add_reading(router: APIRouter, reading: InstanceReading) -> None:
    @router.get("/instances")
    async def instances(
        principal: CurrentPrincipal,
        page: PageQuery,
        tenant: _Tenant = None,
        host: _Host = None,
        idc: _Idc = None,
        name: _Name = None,
    ) -> Listing[InstanceBody]:
        """Instances of the tenants that one may see."""
        found = await reading.page(principal, InstanceFilter(tenant, host, idc, name), page)
        return Listing[InstanceBody].of(found, instance_body)

    @router.get("/instances/{instance_id}")
    async def instance(principal: CurrentPrincipal, instance_id: str) -> Envelope[InstanceBody]:
        """One instance: what is wanted, and what its host says."""
        return Envelope[InstanceBody](data=instance_body(await reading.get(principal, instance_id)))


def _add_writing(router: APIRouter, service: InstanceService) -> None:
    @router.post("/instances", status_code=201)
    async def run(principal: CurrentPrincipal, body: RunBody) -> Envelope[list[InstanceBody]]:
        """Ask for an instance on each host. Harmless to repeat; another specification under the same name is a 409."""
        found = await service.run(principal, body.request())
        return Envelope[list[InstanceBody]](data=[instance_body(view) for view in found])

    @router.post("/hosts/{idc}/{host}/adoptions", status_code=201)
    async def adopt(principal: CurrentPrincipal, idc: str, host: str, body: AdoptionBody) -> Envelope[InstanceBody]:
        """A container of this host that somebody else made becomes an instance: without being made anew if its image
        and its specification are these; if not, its report says what differs, or it is replaced if that is wished.
        """
        found = await service.run(principal, body.on(f"{idc}/{host}"))
        return Envelope[InstanceBody](data=instance_body(found[0]))

    @router.post("/instances/{instance_id}/start")
    async def start(principal: CurrentPrincipal, instance_id: str) -> Envelope[InstanceBody]:
        """Want it running."""
        return Envelope[InstanceBody](data=instance_body(await service.start(principal, instance_id)))

    @router.post("/instances/{instance_id}/stop")
    async def stop(principal: CurrentPrincipal, instance_id: str) -> Envelope[InstanceBody]:
        """Want it stopped; its container stays."""
        return Envelope[InstanceBody](data=instance_body(await service.stop(principal, instance_id)))

    @router.post("/instances/{instance_id}/pause")
    async def pause(principal: CurrentPrincipal, instance_id: str) -> Envelope[InstanceBody]:
        """Want its processes to stand still."""
        return Envelope[InstanceBody](data=instance_body(await service.pause(principal, instance_id)))

    @router.post("/instances/{instance_id}/resume")
    async def resume(principal: CurrentPrincipal, instance_id: str) -> Envelope[InstanceBody]:
        """Want it to go on after a pause; nothing happens to one that is not wanted paused."""
        return Envelope[InstanceBody](data=instance_body(await service.resume(principal, instance_id)))

    @router.post("/instances/{instance_id}/restart")
    async def restart(principal: CurrentPrincipal, instance_id: str) -> Envelope[InstanceBody]:
        """Stop and start it once."""
        return Envelope[InstanceBody](data=instance_body(await service.restart(principal, instance_id)))

    @router.delete("/instances/{instance_id}", status_code=202, response_model=None, responses=_REMOVED)
    async def remove(
        principal: CurrentPrincipal, instance_id: str, force: _Force = False
    ) -> Envelope[InstanceBody] | Response:
        """202: it goes when its host has removed it. 204: it is gone."""
        left = await service.remove(principal, instance_id, force=force)
        if left is None:
            return Response(status_code=204)
        return Envelope[InstanceBody](data=instance_body(left))
