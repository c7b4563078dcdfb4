"""`/api/v1/machines`, `/profiles` and `/install-tasks`; what belongs to a tenant is that tenant's, the rest the
platform's.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, status

from control_plane.machines import store
from control_plane.machines.live import Live
from control_plane.machines.live_routes import add_live
from control_plane.machines.model import MachineState
from control_plane.machines.power.routes import power_routes
from control_plane.machines.power.service import PowerService
from control_plane.machines.profile_routes import profile_routes
from control_plane.machines.profiles import ProfileService
from control_plane.machines.reading import MachineReading
from control_plane.machines.schemas import (
    NO_NUL,
    AssignmentBody,
    DescriptionBody,
    EventView,
    MachineBody,
    MachineView,
    StatisticsView,
    event_view,
    machine_view,
    statistics_view,
)
from control_plane.machines.service import MachineService
from control_plane.machines.task_routes import task_routes
from control_plane.machines.tasks import TaskService
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.errors import Refused
from control_plane.web.paging import PageQuery

_Idc = Annotated[str | None, Query(description="name of a data centre", max_length=300, pattern=NO_NUL)]
_State = Annotated[MachineState | None, Query(alias="state")]
_Tag = Annotated[str | None, Query(max_length=64, pattern=NO_NUL)]
_Find = Annotated[
    str | None, Query(description="part of a name, a serial number or a MAC address", max_length=128, pattern=NO_NUL)
]
_Tenant = Annotated[str | None, Query(description="empty: the platform's", max_length=300, pattern=NO_NUL)]


def build_router(
    service: MachineService,
    reading: MachineReading,
    profiles: ProfileService,
    tasks: TaskService,
    live: Live,
    power: PowerService,
    public_url: str | None,
    refused: Refused,
) -> APIRouter:
    """`refused` is told of what WebSockets are refused for: the error handlers see requests only."""
    router = APIRouter()
    machines = APIRouter(prefix="/api/v1/machines", tags=["machines"])
    add_live(machines, live, public_url, refused)
    _lists(machines, reading)
    _changes(machines, service)
    router.include_router(machines)
    router.include_router(profile_routes(profiles, reading))
    router.include_router(task_routes(tasks, reading))
    router.include_router(power_routes(power))
    return router


def _lists(router: APIRouter, reading: MachineReading) -> None:
    @router.get("")
    async def listed(
        principal: CurrentPrincipal,
        page: PageQuery,
        idc: _Idc = None,
        chosen: _State = None,
        tag: _Tag = None,
        find: _Find = None,
        tenant: _Tenant = None,
    ) -> Listing[MachineView]:
        """Machines by data centre and name: those of one's tenants, and for the platform admin all."""
        tenants = None if tenant is None else frozenset((tenant,))
        wanted = store.Filter(tenants=tenants, idc=idc, state=chosen, tag=tag, text=find)
        return Listing[MachineView].of(await reading.page(principal, wanted, page), machine_view)

    @router.get("/statistics")
    async def statistics(principal: CurrentPrincipal) -> Envelope[list[StatisticsView]]:
        """How many machines and install tasks there are in each data centre, and how long installations took."""
        found = await reading.statistics(principal)
        return Envelope[list[StatisticsView]](data=[statistics_view(one) for one in found])

    @router.get("/{machine_id}")
    async def one(principal: CurrentPrincipal, machine_id: str) -> Envelope[MachineView]:
        """One machine, with what it said of itself."""
        return Envelope[MachineView](data=machine_view(await reading.get(principal, machine_id)))

    @router.get("/{machine_id}/events")
    async def events(principal: CurrentPrincipal, machine_id: str, page: PageQuery) -> Listing[EventView]:
        """Its boot timeline, newest first, with verdicts where a boot stalled."""
        return Listing[EventView].of(await reading.events(principal, machine_id, page), event_view)


def _changes(router: APIRouter, service: MachineService) -> None:
    @router.post("", status_code=status.HTTP_201_CREATED)
    async def create(principal: CurrentPrincipal, body: MachineBody) -> Envelope[MachineView]:
        """Write down a machine before it is seen; it counts as accepted."""
        return Envelope[MachineView](data=machine_view(await service.create(principal, body.wish())))

    @router.patch("/{machine_id}")
    async def describe(principal: CurrentPrincipal, machine_id: str, body: DescriptionBody) -> Envelope[MachineView]:
        """Change what is said of it; what is left out stays."""
        return Envelope[MachineView](data=machine_view(await service.describe(principal, machine_id, body.wish())))

    @router.post("/{machine_id}/accept")
    async def accept(principal: CurrentPrincipal, machine_id: str) -> Envelope[MachineView]:
        """It is ours: something may be installed on it."""
        return Envelope[MachineView](data=machine_view(await service.accept(principal, machine_id)))

    @router.post("/{machine_id}/ignore")
    async def ignore(principal: CurrentPrincipal, machine_id: str) -> Envelope[MachineView]:
        """It is none of ours: it boots as a stranger from now on."""
        return Envelope[MachineView](data=machine_view(await service.ignore(principal, machine_id)))

    @router.post("/{machine_id}/assign")
    async def assign(principal: CurrentPrincipal, machine_id: str, body: AssignmentBody) -> Envelope[MachineView]:
        """Give it to a tenant, or take it back."""
        return Envelope[MachineView](data=machine_view(await service.assign(principal, machine_id, body.tenant)))

    @router.delete("/{machine_id}", status_code=status.HTTP_204_NO_CONTENT)
    async def remove(principal: CurrentPrincipal, machine_id: str) -> None:
        """Forget it, with its history. When it is seen again, it is a new one."""
        await service.remove(principal, machine_id)
