"""`/api/v1/swarm`: where bytes went and what is ordered, for people. Reading only; bytes are in content_routes.py."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from common.digest import Digest
from control_plane.swarm.bad_peers import BadPeers
from control_plane.swarm.bad_peers_store import OffenceFilter
from control_plane.swarm.overview import SwarmOverview
from control_plane.swarm.queries import ContentFilter
from control_plane.swarm.schemas import (
    NO_NUL,
    EgressView,
    HostContentView,
    OffenceView,
    OrderView,
    ProvenanceView,
    egress_view,
    host_content_view,
    offence_view,
    order_view,
    provenance_view,
)
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Listing
from control_plane.web.paging import PageQuery

_Host = Annotated[str | None, Query(description="id, or idc/name", max_length=300, pattern=NO_NUL)]
_Idc = Annotated[str | None, Query(description="name of a data centre", max_length=300, pattern=NO_NUL)]
_Accused = Annotated[
    str | None, Query(description="host/<id>, regional/<id> or address:port", max_length=300, pattern=NO_NUL)
]
_Digest = Annotated[str | None, Query(description="sha256:...", max_length=140)]


def build_router(overview: SwarmOverview, bad_peers: BadPeers) -> APIRouter:
    router = APIRouter(prefix="/api/v1/swarm", tags=["swarm"])

    @router.get("/egress")
    async def egress(principal: CurrentPrincipal, page: PageQuery) -> Listing[EgressView]:
        """Payload bytes of content that left the centre, by data centre and content."""
        return Listing[EgressView].of(await overview.egress(principal, page), egress_view)

    @router.get("/contents")
    async def contents(
        principal: CurrentPrincipal, page: PageQuery, host: _Host = None, idc: _Idc = None, digest: _Digest = None
    ) -> Listing[HostContentView]:
        """What hosts hold, and where they had it from."""
        wanted = ContentFilter(host, idc, str(Digest.parse(digest)) if digest is not None else None)
        found, tenants = await overview.contents(principal, wanted, page)
        return Listing[HostContentView].of(found, lambda row: host_content_view(row, tenants))

    @router.get("/provenance")
    async def provenance(
        principal: CurrentPrincipal, page: PageQuery, idc: _Idc = None, digest: _Digest = None
    ) -> Listing[ProvenanceView]:
        """Where contents came from, summed over the hosts of each data centre."""
        wanted = str(Digest.parse(digest)) if digest is not None else None
        found, tenants = await overview.provenance(principal, idc, wanted, page)
        return Listing[ProvenanceView].of(found, lambda row: provenance_view(row, tenants))

    @router.get("/offences")
    async def offences(
        principal: CurrentPrincipal,
        page: PageQuery,
        idc: _Idc = None,
        accused: _Accused = None,
        digest: _Digest = None,
    ) -> Listing[OffenceView]:
        """Who sent false bytes, as hosts say; newest first, of the last 30 days."""
        wanted = OffenceFilter(idc, accused, str(Digest.parse(digest)) if digest is not None else None)
        found, tenants = await bad_peers.page(principal, wanted, page)
        return Listing[OffenceView].of(found, lambda row: offence_view(row, tenants))

    @router.get("/orders")
    async def orders(principal: CurrentPrincipal, page: PageQuery, idc: _Idc = None) -> Listing[OrderView]:
        """What each data centre shall hold, and how far its regionals are."""
        found, tenants = await overview.orders(principal, idc, page)
        return Listing[OrderView].of(found, lambda row: order_view(row, tenants))

    return router
