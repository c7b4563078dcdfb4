"""`/api/v1/commands`, and asking hosts and instances for one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, status

from control_plane.commands.schemas import CommandBody, CommandListed, CommandView, command_listed, command_view
from control_plane.commands.service import CommandService
from control_plane.swarm.schemas import NO_NUL
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery

_Host = Annotated[str | None, Query(description="id, or idc/name", max_length=300, pattern=NO_NUL)]
_Instance = Annotated[str | None, Query(description="id of an instance", max_length=36, pattern=NO_NUL)]
_Open = Annotated[bool, Query(description="only those without an outcome")]


def build_router(service: CommandService) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["commands"])

    @router.post("/hosts/{host:path}/commands", status_code=status.HTTP_202_ACCEPTED)
    async def ask_host(principal: CurrentPrincipal, host: str, body: CommandBody) -> Envelope[CommandView]:
        """Ask a host once: prune_cache, collect_diagnostics. It is carried out once at most."""
        made = await service.ask_host(principal, host, body.wish())
        return Envelope(data=command_view(made, await service.labels([made])))

    @router.post("/instances/{instance_id}/commands", status_code=status.HTTP_202_ACCEPTED)
    async def ask_instance(principal: CurrentPrincipal, instance_id: str, body: CommandBody) -> Envelope[CommandView]:
        """Ask an instance's host once: restart, refetch. It is carried out once at most."""
        made = await service.ask_instance(principal, instance_id, body.wish())
        return Envelope(data=command_view(made, await service.labels([made])))

    @router.get("/commands")
    async def commands(
        principal: CurrentPrincipal,
        page: PageQuery,
        host: _Host = None,
        instance: _Instance = None,
        open_only: _Open = False,
    ) -> Listing[CommandListed]:
        """Newest first; outcomes are kept for 30 days. Commands to hosts are shown to the platform admin only."""
        found = await service.page(principal, page, host=host, instance_id=instance, open_only=open_only)
        labels = await service.labels(found.items)
        return Listing[CommandListed].of(found, lambda one: command_listed(one, labels))

    @router.get("/commands/{command_id}")
    async def command(principal: CurrentPrincipal, command_id: str) -> Envelope[CommandView]:
        """One command and what came of it."""
        found = await service.get(principal, command_id)
        return Envelope(data=command_view(found, await service.labels([found])))

    @router.post("/commands/{command_id}/cancel")
    async def cancel(principal: CurrentPrincipal, command_id: str) -> Envelope[CommandView]:
        """Not to be begun any more: certain if the host was not told, else the host has the last word."""
        found = await service.cancel(principal, command_id)
        return Envelope(data=command_view(found, await service.labels([found])))

    return router
