"""Wire models of spreads."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from common.limits import BYTES_PER_MBIT
from control_plane.swarm.spreads.model import SpreadReport
from control_plane.swarm.spreads.service import Forecast, IdcForecast


class SpreadView(BaseModel):
    """One content on its way to the hosts of one data centre."""

    idc: str
    tenant: str
    digest: str
    size_bytes: int
    hosts: int
    hosts_done: int
    began_at: datetime
    ended_at: datetime | None
    seconds: float | None = Field(description="to the last host; null while it goes on")
    minimum_seconds: float | None = Field(description="what the links allow at best; null: nothing is known of them")
    efficiency: float | None
    binding: str = Field(description="the link that sets the least time")
    from_centre_bytes: int
    from_regional_bytes: int
    from_peers_bytes: int


class LinkView(BaseModel):
    mbps: float
    limited: bool = Field(description="a limit that somebody gave; otherwise the best that was measured")


class IdcForecastView(BaseModel):
    idc: str
    hosts: int
    minimum_seconds: float | None
    binding: str
    links: dict[str, LinkView]


class ForecastView(BaseModel):
    size_bytes: int
    hosts: int
    minimum_seconds: float | None = Field(description="null: nothing is known of the links")
    binding: str
    idcs: list[IdcForecastView]


def spread_view(report: SpreadReport) -> SpreadView:
    spread = report.spread
    return SpreadView(
        idc=report.idc,
        tenant=report.tenant,
        digest=spread.digest,
        size_bytes=spread.size_bytes,
        hosts=len(spread.shares),
        hosts_done=sum(share.ended_at is not None for share in spread.shares),
        began_at=spread.began_at,
        ended_at=spread.ended_at,
        seconds=spread.seconds,
        minimum_seconds=report.bound.seconds or None,
        efficiency=report.efficiency,
        binding=report.bound.binding,
        from_centre_bytes=sum(share.from_centre_bytes for share in spread.shares),
        from_regional_bytes=sum(share.from_regional_bytes for share in spread.shares),
        from_peers_bytes=sum(share.from_peers_bytes for share in spread.shares),
    )


def forecast_view(forecast: Forecast) -> ForecastView:
    return ForecastView(
        size_bytes=forecast.size_bytes,
        hosts=forecast.hosts,
        minimum_seconds=forecast.bound.seconds or None,
        binding=forecast.bound.binding,
        idcs=[_idc(one) for one in forecast.idcs],
    )


def _idc(one: IdcForecast) -> IdcForecastView:
    links = {
        link.value: LinkView(mbps=round(speed.bytes_per_second / BYTES_PER_MBIT, 3), limited=speed.limited)
        for link, speed in one.speeds.items()
    }
    return IdcForecastView(
        idc=one.idc,
        hosts=one.hosts,
        minimum_seconds=one.bound.seconds or None,
        binding=one.bound.binding,
        links=links,
    )
