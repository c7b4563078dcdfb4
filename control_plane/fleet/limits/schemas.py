"""Wire models of limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from common.limits import MINUTES, DailyWindow, Link
from control_plane.fleet.limits.model import LimitPolicy, ScopeKind, WindowPolicy
from control_plane.fleet.limits.service import ScopePolicy

_Mbps = Annotated[float | None, Field(description="Mbit/s of payload; null: no limit")]
_TIME = "^([01][0-9]|2[0-3]):[0-5][0-9]$"
Time = Annotated[str, Field(pattern=_TIME, description="HH:MM of the local day")]


class RatesBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    wan_down_mbps: _Mbps = Field(default=None, description="what a regional takes from the centre, in Mbit/s")
    regional_up_mbps: _Mbps = Field(default=None, description="what a regional gives to hosts, in Mbit/s")
    host_up_mbps: _Mbps = Field(default=None, description="what each host gives to others, in Mbit/s")
    host_down_mbps: _Mbps = Field(default=None, description="what each host takes, in Mbit/s")

    def rates(self) -> dict[Link, float]:
        given = {link: getattr(self, f"{link.value}_mbps") for link in Link}
        return {link: mbps for link, mbps in given.items() if mbps is not None}


class WindowBody(RatesBody):
    """Rates for some hours of each day; a window that ends before it begins goes past midnight."""

    start: Time
    end: Time
    time_zone: str = Field(default="UTC", max_length=64)


class LimitsBody(RatesBody):
    """What is left out is not limited. Windows stand before the rates that always hold; the first open one counts."""

    windows: list[WindowBody] = Field(default_factory=list)

    def policy(self) -> LimitPolicy:
        windows = tuple(
            WindowPolicy(DailyWindow(minute_of(one.start), minute_of(one.end), one.time_zone), one.rates())
            for one in self.windows
        )
        return LimitPolicy(self.rates(), windows)


class LimitsView(LimitsBody):
    scope: ScopeKind
    name: str = Field(description="of the IDC or tenant, idc/name of a host; empty for the platform")


def limits_view(found: ScopePolicy) -> LimitsView:
    windows = [
        WindowBody(
            start=clock_text(one.window.from_minute),
            end=clock_text(one.window.until_minute),
            time_zone=one.window.time_zone,
            **_fields(one.rates),
        )
        for one in found.policy.windows
    ]
    return LimitsView(scope=found.kind, name=found.name, windows=windows, **_fields(found.policy.rates))


def minute_of(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


def clock_text(minute: int) -> str:
    return f"{minute % MINUTES // 60:02}:{minute % 60:02}"


def _fields(rates: Mapping[Link, float]) -> dict[str, float]:
    return {f"{link.value}_mbps": mbps for link, mbps in rates.items()}
