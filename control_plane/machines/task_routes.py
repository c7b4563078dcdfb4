"""`/api/v1/install-tasks`: installations, from being asked for to their end."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, status

from control_plane.machines import store_tasks
from control_plane.machines.reading import MachineReading
from control_plane.machines.schemas import (
    NO_NUL,
    ApprovalBody,
    AskBody,
    HistoryView,
    LogView,
    ReasonBody,
    TaskView,
    history_view,
    log_view,
    task_view,
)
from control_plane.machines.tasks import TaskService
from control_plane.machines.tasks_model import TaskState
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery

_Idc = Annotated[str | None, Query(description="name of a data centre", max_length=300, pattern=NO_NUL)]
_Machine = Annotated[str | None, Query(description="id or idc/name", max_length=300, pattern=NO_NUL)]
_State = Annotated[TaskState | None, Query(alias="state")]
_Tenant = Annotated[str | None, Query(description="empty: the platform's", max_length=300, pattern=NO_NUL)]
_After = Annotated[int, Query(description="lines with higher numbers only", ge=0, le=1_000_000_000)]


def task_routes(service: TaskService, reading: MachineReading) -> APIRouter:
    router = APIRouter(prefix="/api/v1/install-tasks", tags=["machines"])
    _lists(router, reading)

    @router.post("", status_code=status.HTTP_201_CREATED)
    async def ask(principal: CurrentPrincipal, body: AskBody) -> Envelope[TaskView]:
        """Ask for an installation. Images are resolved now; it waits for approval."""
        machine_id = await reading.named(principal, body.machine)
        profile_id = await reading.profile_named(principal, body.profile)
        return Envelope[TaskView](data=task_view(await service.ask(principal, machine_id, profile_id, body.version)))

    @router.post("/{task_id}/approve")
    async def approve(principal: CurrentPrincipal, task_id: str, body: ApprovalBody) -> Envelope[TaskView]:
        """Let it begin when the machine boots next. This is what wipes the disk."""
        return Envelope[TaskView](data=task_view(await service.approve(principal, task_id, body.approval())))

    @router.post("/{task_id}/reject")
    async def reject(principal: CurrentPrincipal, task_id: str, body: ReasonBody) -> Envelope[TaskView]:
        """Refuse it; it is over."""
        return Envelope[TaskView](data=task_view(await service.reject(principal, task_id, body.reason)))

    @router.post("/{task_id}/cancel")
    async def cancel(principal: CurrentPrincipal, task_id: str, body: ReasonBody) -> Envelope[TaskView]:
        """A machine that has not begun boots its disk; one that has is told to stop."""
        return Envelope[TaskView](data=task_view(await service.cancel(principal, task_id, body.reason)))

    @router.post("/{task_id}/retry")
    async def retry(principal: CurrentPrincipal, task_id: str, body: ApprovalBody) -> Envelope[TaskView]:
        """Another permission for one that failed or was cancelled."""
        return Envelope[TaskView](data=task_view(await service.retry(principal, task_id, body.approval())))

    return router


def _lists(router: APIRouter, reading: MachineReading) -> None:
    @router.get("")
    async def listed(
        principal: CurrentPrincipal,
        page: PageQuery,
        idc: _Idc = None,
        machine: _Machine = None,
        chosen: _State = None,
        tenant: _Tenant = None,
    ) -> Listing[TaskView]:
        """Newest first."""
        machine_id = None if machine is None else await reading.named(principal, machine)
        tenants = None if tenant is None else frozenset((tenant,))
        wanted = store_tasks.Filter(tenants=tenants, idc=idc, machine_id=machine_id, state=chosen)
        return Listing[TaskView].of(await reading.tasks(principal, wanted, page), task_view)

    @router.get("/{task_id}")
    async def one(principal: CurrentPrincipal, task_id: str) -> Envelope[TaskView]:
        """How far it is, step by step."""
        return Envelope[TaskView](data=task_view(await reading.task(principal, task_id)))

    @router.get("/{task_id}/history")
    async def history(principal: CurrentPrincipal, task_id: str) -> Envelope[list[HistoryView]]:
        """Every move of it, and whose it was."""
        found = await reading.history(principal, task_id)
        return Envelope[list[HistoryView]](data=[history_view(entry) for entry in found])

    @router.get("/{task_id}/logs")
    async def logs(principal: CurrentPrincipal, task_id: str, page: PageQuery, after: _After = 0) -> Listing[LogView]:
        """What its installer wrote; the newest 5,000 lines are kept."""
        return Listing[LogView].of(await reading.logs(principal, task_id, after, page), log_view)
