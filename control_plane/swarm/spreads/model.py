"""Spreads: one content on its way to the hosts of one IDC; pure.

Hosts that begin while others are still at it, or within a minute of their end, belong to one spread. The rates of an
IDC's links are its limits; where there is none, the largest that was ever measured over a whole spread, which is a
lower bound of the link. Forecasts use both; a spread that was is judged by the limits, and only where there are none by
the best spread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from common.limits import Link
from common.spreading.model import Bound, Host, Site, minimum_seconds

_SAME_SPREAD = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Share:
    """One host's part in the spread of one content. Bytes are those that the host reported when it was done."""

    idc_id: str
    tenant_id: str
    digest: str
    host_id: str
    size_bytes: int
    began_at: datetime
    ended_at: datetime | None
    from_centre_bytes: int
    from_regional_bytes: int
    from_peers_bytes: int


@dataclass(frozen=True, slots=True)
class Spread:
    idc_id: str
    tenant_id: str
    digest: str
    size_bytes: int
    shares: tuple[Share, ...]

    @property
    def began_at(self) -> datetime:
        return min(share.began_at for share in self.shares)

    @property
    def ended_at(self) -> datetime | None:
        """None while a host is still at it."""
        ends = [share.ended_at for share in self.shares if share.ended_at is not None]
        return max(ends) if len(ends) == len(self.shares) else None

    @property
    def seconds(self) -> float | None:
        """To the last host; None while it goes on, or when it was faster than hosts report."""
        ended = self.ended_at
        taken = (ended - self.began_at).total_seconds() if ended is not None else 0.0
        return taken if taken > 0 else None


@dataclass(frozen=True, slots=True)
class LinkSpeed:
    """`limited`: somebody said so; otherwise it was measured."""

    bytes_per_second: float
    limited: bool


Speeds = Mapping[Link, LinkSpeed]


@dataclass(frozen=True, slots=True)
class SpreadReport:
    spread: Spread
    idc: str
    tenant: str
    bound: Bound
    efficiency: float | None


def spreads_of(shares: Iterable[Share]) -> list[Spread]:
    """The newest first."""
    groups: dict[tuple[str, str, str], list[Share]] = {}
    for share in sorted(shares, key=lambda one: (one.began_at, one.host_id)):
        groups.setdefault((share.idc_id, share.tenant_id, share.digest), []).append(share)
    found = [_spread(wave) for group in groups.values() for wave in _waves(group)]
    return sorted(found, key=lambda one: (one.began_at, one.digest), reverse=True)


def bound_of(size_bytes: int, name: str, hosts: int, speeds: Speeds, *, regional: bool = True) -> Bound:
    return minimum_seconds(size_bytes, None, [site_of(name, hosts, speeds, regional=regional)])


def site_of(name: str, hosts: int, speeds: Speeds, *, regional: bool = True) -> Site:
    host = Host(up=_rate(speeds, Link.HOST_UP), down=_rate(speeds, Link.HOST_DOWN))
    return Site(
        name,
        [host] * hosts,
        wan=_rate(speeds, Link.WAN_DOWN),
        regional=regional,
        regional_up=_rate(speeds, Link.REGIONAL_UP),
    )


def speeds_of(limits: Mapping[Link, float], history: Sequence[Spread]) -> dict[Link, LinkSpeed]:
    """Of one IDC; links of which nothing is known are absent. `limits` in bytes per second."""
    peaks: dict[Link, float] = {}
    for spread in history:
        for link, rate in _measured(spread).items():
            peaks[link] = max(peaks.get(link, 0.0), rate)
    speeds = {link: LinkSpeed(rate, limited=False) for link, rate in peaks.items() if rate > 0}
    return speeds | {link: LinkSpeed(rate, limited=True) for link, rate in limits.items()}


def judging(speeds: Speeds) -> Speeds:
    """What a spread that was is judged by. A measured rate is that of a spread, not of the link: beside limits it would
    name a link that was idle, and call every spread the best one.
    """
    limited = {link: speed for link, speed in speeds.items() if speed.limited}
    return limited or speeds


def _measured(spread: Spread) -> dict[Link, float]:
    seconds = spread.seconds
    if seconds is None:
        return {}
    shares, hosts = spread.shares, len(spread.shares)
    fastest = max(
        (
            share.size_bytes / taken
            for share in shares
            if share.ended_at is not None and (taken := (share.ended_at - share.began_at).total_seconds()) > 0
        ),
        default=0.0,
    )
    return {
        # The content crossed the WAN once at least while the first host waited for it.
        Link.WAN_DOWN: max(spread.size_bytes, sum(share.from_centre_bytes for share in shares)) / seconds,
        Link.REGIONAL_UP: sum(share.from_regional_bytes for share in shares) / seconds,
        Link.HOST_UP: sum(share.from_peers_bytes for share in shares) / (hosts * seconds),
        Link.HOST_DOWN: fastest,
    }


def _waves(shares: Sequence[Share]) -> list[list[Share]]:
    """`shares` in the order of their beginning."""
    waves: list[list[Share]] = []
    until: datetime | None = None
    for share in shares:
        if not waves or (until is not None and share.began_at > until + _SAME_SPREAD):
            waves.append([])
            until = share.ended_at
        waves[-1].append(share)
        # One that never ended keeps its spread open.
        until = None if share.ended_at is None or until is None else max(until, share.ended_at)
    return waves


def _spread(wave: Sequence[Share]) -> Spread:
    first = wave[0]
    return Spread(first.idc_id, first.tenant_id, first.digest, first.size_bytes, tuple(wave))


def _rate(speeds: Speeds, link: Link) -> float | None:
    found = speeds.get(link)
    return None if found is None else found.bytes_per_second
