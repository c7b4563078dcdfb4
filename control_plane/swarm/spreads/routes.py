"""`/api/v1/swarm/spreads` and `/api/v1/swarm/forecast`. Reading only."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from common.digest import Digest
from control_plane.swarm.schemas import NO_NUL
from control_plane.swarm.spreads.schemas import ForecastView, SpreadView, forecast_view, spread_view
from control_plane.swarm.spreads.service import SpreadService
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery

_Idc = Annotated[str | None, Query(description="name of a data centre", max_length=300, pattern=NO_NUL)]
_Idcs = Annotated[list[str] | None, Query(description="names of data centres; none: all with hosts", max_length=200)]
_Digest = Annotated[str | None, Query(description="sha256:...", max_length=140)]
_Size = Annotated[int, Query(description="how many bytes are to reach every host", ge=1)]
_Hosts = Annotated[int | None, Query(description="in each data centre; none: all that there are", ge=1, le=100_000)]


def build_router(spreads: SpreadService) -> APIRouter:
    router = APIRouter(prefix="/api/v1/swarm", tags=["swarm"])

    @router.get("/spreads")
    async def reports(
        principal: CurrentPrincipal, page: PageQuery, idc: _Idc = None, digest: _Digest = None
    ) -> Listing[SpreadView]:
        """How fast contents reached the hosts of a data centre, and how fast they could have at best."""
        wanted = str(Digest.parse(digest)) if digest is not None else None
        return Listing[SpreadView].of(await spreads.reports(principal, idc, wanted, page), spread_view)

    @router.get("/forecast")
    async def forecast(
        principal: CurrentPrincipal, size_bytes: _Size = 1_000_000_000, idc: _Idcs = None, hosts: _Hosts = None
    ) -> Envelope[ForecastView]:
        """The least time in which so many bytes can reach these hosts, and the link that sets it."""
        found = await spreads.forecast(principal, size_bytes, tuple(idc or ()), hosts)
        return Envelope[ForecastView](data=forecast_view(found))

    return router
