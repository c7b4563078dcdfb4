"""`/api/v1/hosts/.../cordon|uncordon|drain|standing`, `/api/v1/capacity` and the capacity of one IDC or host.

Included before the fleet's own routes: a host is named by `idc/name`, so its own route takes any longer path too.
"""

from __future__ import annotations

from fastapi import APIRouter

from control_plane.fleet.placement.model import ScopeKind, Standing
from control_plane.fleet.placement.schemas import (
    CapacityBody,
    CapacityPolicyView,
    CordonBody,
    DrainBody,
    StandingView,
)
from control_plane.fleet.placement.service import HostPlaces
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope


def build_router(places: HostPlaces) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["placement"])
    _add_standings(router, places)
    _add_capacity(router, places)
    return router


def _add_standings(router: APIRouter, places: HostPlaces) -> None:
    @router.get("/hosts/{host:path}/standing")
    async def standing(principal: CurrentPrincipal, host: str) -> Envelope[StandingView]:
        """Whether a host takes new instances, and why not."""
        return Envelope(data=StandingView.of(await places.standing(principal, host)))

    @router.post("/hosts/{host:path}/cordon")
    async def cordon(principal: CurrentPrincipal, host: str, body: CordonBody) -> Envelope[StandingView]:
        """Nothing new comes to the host; what is there stays. Ends a drain."""
        return Envelope(data=StandingView.of(await places.put(principal, host, Standing.CORDONED, body.reason)))

    @router.post("/hosts/{host:path}/drain")
    async def drain(principal: CurrentPrincipal, host: str, body: DrainBody) -> Envelope[StandingView]:
        """Nothing new comes to the host, and what may move moves away. GET the same path for how far that is."""
        made = await places.put(principal, host, Standing.DRAINING, body.reason, body.max_unavailable)
        return Envelope(data=StandingView.of(made))

    @router.post("/hosts/{host:path}/uncordon")
    async def uncordon(principal: CurrentPrincipal, host: str) -> Envelope[StandingView]:
        """The host takes new instances again. What moved away does not come back by itself."""
        return Envelope(data=StandingView.of(await places.put(principal, host, Standing.OPEN)))


def _add_capacity(router: APIRouter, places: HostPlaces) -> None:
    @router.get("/capacity")
    async def policies(principal: CurrentPrincipal) -> Envelope[list[CapacityPolicyView]]:
        """What is kept back and promised several times, of the platform, IDCs and hosts."""
        found = await places.policies(principal)
        return Envelope(data=[CapacityPolicyView.of(one) for one in found])

    @router.put("/capacity")
    async def put_platform(principal: CurrentPrincipal, body: CapacityBody) -> Envelope[CapacityPolicyView]:
        """For every host whose IDC and itself say nothing else; all of it at once."""
        return await _put(principal, ScopeKind.PLATFORM, "", body)

    @router.put("/idcs/{name}/capacity")
    async def put_idc(principal: CurrentPrincipal, name: str, body: CapacityBody) -> Envelope[CapacityPolicyView]:
        """For the hosts of a data centre; all of it at once."""
        return await _put(principal, ScopeKind.IDC, name, body)

    @router.put("/hosts/{host:path}/capacity")
    async def put_host(principal: CurrentPrincipal, host: str, body: CapacityBody) -> Envelope[CapacityPolicyView]:
        """For one host; all of it at once."""
        return await _put(principal, ScopeKind.HOST, host, body)

    async def _put(
        principal: CurrentPrincipal, kind: ScopeKind, name: str, body: CapacityBody
    ) -> Envelope[CapacityPolicyView]:
        return Envelope(data=CapacityPolicyView.of(await places.put_policy(principal, kind, name, body.policy())))
