"""`/api/v1/instances/{id}/snapshots`: words for the commands that concern them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, status

from control_plane.commands.model import Verb
from control_plane.commands.schemas import CommandView, SnapshotBody, SnapshotView, command_view, snapshot_view
from control_plane.commands.service import CommandService, Wish
from control_plane.commands.snapshots import Snapshots
from control_plane.swarm.schemas import NO_NUL
from control_plane.tenants.access import Principal
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope

_Id = Annotated[
    str,
    Query(
        alias="id",
        description="a UUID of your own: a repeated request is then one command",
        max_length=36,
        pattern=NO_NUL,
    ),
]


def build_router(service: CommandService, snapshots: Snapshots) -> APIRouter:
    router = APIRouter(prefix="/api/v1/instances/{instance_id}/snapshots", tags=["snapshots"])

    async def asked(principal: Principal, instance_id: str, verb: Verb, name: str, key: str) -> Envelope[CommandView]:
        # Where a pool has no snapshots of its own, everything is copied.
        wish = Wish(verb, key, end_within=timedelta(hours=1), argument=name)
        made = await service.ask_instance(principal, instance_id, wish)
        return Envelope(data=command_view(made, await service.labels([made])))

    @router.get("")
    async def listed(principal: CurrentPrincipal, instance_id: str) -> Envelope[list[SnapshotView]]:
        """Oldest first. Its host is asked, and given some seconds to answer."""
        return Envelope(data=[snapshot_view(one) for one in await snapshots.listed(principal, instance_id)])

    @router.post("", status_code=status.HTTP_202_ACCEPTED)
    async def take(principal: CurrentPrincipal, instance_id: str, body: SnapshotBody) -> Envelope[CommandView]:
        """Keep its disk as it is now. The command's outcome says whether that was done; Docker cannot."""
        return await asked(principal, instance_id, Verb.SNAPSHOT, body.name, body.id)

    @router.post("/{name}/restore", status_code=status.HTTP_202_ACCEPTED)
    async def restore(principal: CurrentPrincipal, instance_id: str, name: str, key: _Id = "") -> Envelope[CommandView]:
        """Its disk as it was then; it is stopped for that, and runs again afterwards if it is wanted running."""
        return await asked(principal, instance_id, Verb.RESTORE_SNAPSHOT, name, key)

    @router.delete("/{name}", status_code=status.HTTP_202_ACCEPTED)
    async def delete(principal: CurrentPrincipal, instance_id: str, name: str, key: _Id = "") -> Envelope[CommandView]:
        """Harmless to repeat."""
        return await asked(principal, instance_id, Verb.DELETE_SNAPSHOT, name, key)

    return router
