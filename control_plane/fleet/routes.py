"""`/api/v1/idcs`, `/hosts`, `/regionals`, `/join-tokens`, and `/.well-known/longshore` for machines that want to join.

Everybody who is signed in may look; the platform admin changes things, and only it sees join tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, status

from control_plane.fleet.hosts import Members
from control_plane.fleet.idcs import Idcs
from control_plane.fleet.join_tokens import JoinTokens
from control_plane.fleet.model import State
from control_plane.fleet.schemas import (
    HostView,
    IdcCreate,
    IdcView,
    JoinTokenCreate,
    JoinTokenMade,
    JoinTokenView,
    LabelsBody,
    RegionalView,
    WellKnown,
)
from control_plane.tenants.access import Permission
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery

_IdcName = Annotated[str | None, Query(description="only of this data centre", max_length=63)]
_State = Annotated[State | None, Query(description="only in this state; revoked ones are shown only if asked for")]
_NO_CONTENT = status.HTTP_204_NO_CONTENT


@dataclass(frozen=True, slots=True)
class Advertised:
    """What `/.well-known/longshore` says. The addresses are known only once the listeners have their ports."""

    version: str
    ca_pem: bytes
    enrolment: Callable[[], str]
    attach: Callable[[], str]


def build_router(idcs: Idcs, members: Members, join_tokens: JoinTokens, advertised: Advertised) -> APIRouter:
    router = APIRouter(tags=["fleet"])
    _add_well_known(router, advertised)
    _add_idcs(router, idcs)
    _add_hosts(router, members)
    _add_regionals(router, members)
    _add_join_tokens(router, join_tokens)
    return router


def _add_well_known(router: APIRouter, advertised: Advertised) -> None:
    @router.get("/.well-known/longshore")
    async def well_known(request: Request) -> WellKnown:
        """Where to join this control plane. No login; the caller checks `ca_pem` against its join token."""
        host = request.url.hostname or "localhost"
        return WellKnown(
            version=advertised.version,
            enrolment=reachable(advertised.enrolment(), host),
            attach=reachable(advertised.attach(), host),
            ca_pem=advertised.ca_pem.decode(),
        )


def reachable(address: str, asked_at: str) -> str:
    """`address`, with the host that the client reached us at in place of "every address of this machine"."""
    host, _, port = address.rpartition(":")
    if host.strip("[]") not in ("", "0.0.0.0", "::"):
        return address
    return f"[{asked_at}]:{port}" if ":" in asked_at else f"{asked_at}:{port}"


def _add_idcs(router: APIRouter, idcs: Idcs) -> None:
    @router.get("/api/v1/idcs")
    async def list_idcs(principal: CurrentPrincipal, page: PageQuery) -> Listing[IdcView]:
        """The data centres, by name."""
        principal.require(Permission.PLATFORM_READ)
        return Listing[IdcView].of(await idcs.list(page), IdcView.of)

    @router.post("/api/v1/idcs", status_code=status.HTTP_201_CREATED)
    async def create_idc(principal: CurrentPrincipal, body: IdcCreate) -> Envelope[IdcView]:
        """Name a data centre, so that machines can join in it."""
        principal.require(Permission.PLATFORM_MANAGE)
        return Envelope(data=IdcView.of(await idcs.create(body.name, body.display_name)))

    @router.get("/api/v1/idcs/{name}")
    async def get_idc(principal: CurrentPrincipal, name: str) -> Envelope[IdcView]:
        """One data centre."""
        principal.require(Permission.PLATFORM_READ)
        return Envelope(data=IdcView.of(await idcs.get(name)))

    @router.delete("/api/v1/idcs/{name}", status_code=_NO_CONTENT)
    async def remove_idc(principal: CurrentPrincipal, name: str) -> None:
        """Remove a data centre that holds nothing any more."""
        principal.require(Permission.PLATFORM_MANAGE)
        await idcs.remove(name)


def _add_hosts(router: APIRouter, members: Members) -> None:
    @router.get("/api/v1/hosts")
    async def list_hosts(
        principal: CurrentPrincipal, page: PageQuery, idc: _IdcName = None, state: _State = None
    ) -> Listing[HostView]:
        """Machines that joined, with what they say of themselves; revoked ones only if asked for."""
        principal.require(Permission.PLATFORM_READ)
        return Listing[HostView].of(await members.list("host", page, idc=idc, state=state), HostView.of)

    # `:path`, because a host is named by its id or by `idc/name`.
    @router.get("/api/v1/hosts/{host:path}")
    async def get_host(principal: CurrentPrincipal, host: str) -> Envelope[HostView]:
        """One host, by its id or by `idc/name`."""
        principal.require(Permission.PLATFORM_READ)
        return Envelope(data=HostView.of(await members.get("host", host)))

    @router.put("/api/v1/hosts/{host:path}/labels")
    async def label_host(principal: CurrentPrincipal, host: str, body: LabelsBody) -> Envelope[HostView]:
        """What operators say of a host: preheats choose by it."""
        principal.require(Permission.PLATFORM_MANAGE)
        return Envelope(data=HostView.of(await members.label(host, body.labels)))

    @router.delete("/api/v1/hosts/{host:path}", status_code=_NO_CONTENT)
    async def revoke_host(principal: CurrentPrincipal, host: str) -> None:
        """Its certificates are worth nothing from now on, and its stream ends. Harmless to repeat."""
        principal.require(Permission.PLATFORM_MANAGE)
        await members.revoke("host", host)


def _add_regionals(router: APIRouter, members: Members) -> None:
    @router.get("/api/v1/regionals")
    async def list_regionals(
        principal: CurrentPrincipal, page: PageQuery, idc: _IdcName = None, state: _State = None
    ) -> Listing[RegionalView]:
        """Regionals that joined, with the addresses that they are reached at; revoked ones only if asked for."""
        principal.require(Permission.PLATFORM_READ)
        return Listing[RegionalView].of(await members.list("regional", page, idc=idc, state=state), RegionalView.of)

    @router.get("/api/v1/regionals/{regional:path}")
    async def get_regional(principal: CurrentPrincipal, regional: str) -> Envelope[RegionalView]:
        """One regional, by its id or by `idc/name`."""
        principal.require(Permission.PLATFORM_READ)
        return Envelope(data=RegionalView.of(await members.get("regional", regional)))

    @router.delete("/api/v1/regionals/{regional:path}", status_code=_NO_CONTENT)
    async def revoke_regional(principal: CurrentPrincipal, regional: str) -> None:
        """Its certificates are worth nothing from now on, and its stream ends. Harmless to repeat."""
        principal.require(Permission.PLATFORM_MANAGE)
        await members.revoke("regional", regional)


def _add_join_tokens(router: APIRouter, join_tokens: JoinTokens) -> None:
    @router.get("/api/v1/join-tokens")
    async def list_join_tokens(principal: CurrentPrincipal, page: PageQuery) -> Listing[JoinTokenView]:
        """Newest first; without their secrets, which nobody has."""
        principal.require(Permission.PLATFORM_MANAGE)
        return Listing[JoinTokenView].of(await join_tokens.list(page), JoinTokenView.of)

    @router.post("/api/v1/join-tokens", status_code=status.HTTP_201_CREATED)
    async def make_join_token(principal: CurrentPrincipal, body: JoinTokenCreate) -> Envelope[JoinTokenMade]:
        """A token for one machine. Its text is in this answer and nowhere else."""
        principal.require(Permission.PLATFORM_MANAGE)
        made = await join_tokens.make(
            body.kind,
            body.idc,
            name=body.name,
            life=timedelta(seconds=body.ttl_seconds),
            created_by=principal.name,
        )
        return Envelope(data=JoinTokenMade.made(made))

    @router.delete("/api/v1/join-tokens/{token_id}", status_code=_NO_CONTENT)
    async def remove_join_token(principal: CurrentPrincipal, token_id: str) -> None:
        """Remove a token; nobody joins with it any more."""
        principal.require(Permission.PLATFORM_MANAGE)
        await join_tokens.remove(token_id)
