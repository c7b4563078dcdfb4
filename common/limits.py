"""Limits of links as the centre says them and the edges keep them; pure.

Invariant: a rule that cannot be understood limits nothing, it never stops a line; of the rules for one link and tenant
the first whose window is open counts, so windows stand before what is always true.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

MINUTES = 24 * 60
# One Mbit/s is 10^6 bits; limits are of payload.
BYTES_PER_MBIT = 125_000


class Link(StrEnum):
    WAN_DOWN = "wan_down"  # the regional's download from the centre
    REGIONAL_UP = "regional_up"  # what the regional sends to hosts
    HOST_UP = "host_up"
    HOST_DOWN = "host_down"


@dataclass(frozen=True, slots=True)
class DailyWindow:
    """Minutes of the local day; one that ends before it begins goes past midnight; equal ones are the whole day."""

    from_minute: int = 0
    until_minute: int = 0
    time_zone: str = "UTC"

    @property
    def whole_day(self) -> bool:
        return self.from_minute == self.until_minute

    def open_at(self, moment: datetime) -> bool:
        """`moment` is aware. A time zone that this machine does not know is read as UTC."""
        if self.whole_day:
            return True
        local = moment.astimezone(zone_of(self.time_zone))
        minute = local.hour * 60 + local.minute
        if self.from_minute < self.until_minute:
            return self.from_minute <= minute < self.until_minute
        return minute >= self.from_minute or minute < self.until_minute


@dataclass(frozen=True, slots=True)
class LimitRule:
    """`tenant_id` empty: the whole link. `bytes_per_second` 0: no limit."""

    link: Link
    bytes_per_second: int
    tenant_id: str = ""
    window: DailyWindow = DailyWindow()


@dataclass(frozen=True, slots=True)
class LinkRates:
    """What holds now of one link, in bytes per second; 0 and absent tenants: no limit."""

    whole: int = 0
    tenants: Mapping[str, int] | None = None

    def tenant(self, tenant_id: str) -> int:
        return (self.tenants or {}).get(tenant_id, 0)


def rates_at(rules: Iterable[LimitRule], link: Link, moment: datetime) -> LinkRates:
    found: dict[str, int] = {}
    for rule in rules:
        if rule.link is link and rule.tenant_id not in found and rule.window.open_at(moment):
            found[rule.tenant_id] = rule.bytes_per_second
    whole = found.pop("", 0)
    return LinkRates(whole, {tenant: rate for tenant, rate in found.items() if rate})


def zone_of(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def zone_known(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


Rules = Sequence[LimitRule]
