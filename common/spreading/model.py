"""What the links allow: the least time in which a content can reach all hosts, and which link sets it.

Kumar and Ross (HOTWEB 2006): D_min = max(F/u_s, F/d_min, N F/(u_s + sum u_i)); data centres behind narrow links add
F/w_k, and within each N_k F/(what enters + sum u_i). It is a bound of physics, so no plan beats it. Rates are payload
bytes per second; None: unknown, and then it binds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# A gate sends to its neighbours what it takes from the WAN. Measured: uplink twice the WAN 0.86 of the bound; equal to
# it 0.16, because everybody asks the gate for its newest piece.
GATE_UPLINK_PER_WAN = 2.0
# Without known rates; leases are disjoint, so more gates cost connections and no copies.
UNKNOWN_GATES = 8
# All times are proportional to the size.
_ANY_SIZE = 1 << 30


@dataclass(frozen=True, slots=True)
class Host:
    up: float | None = None
    down: float | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """A data centre. `wan`: from the source into it. `regional_up`: of the cache that all its bytes pass; None with
    `regional` means unknown.
    """

    name: str
    hosts: Sequence[Host]
    wan: float | None = None
    regional: bool = True
    regional_up: float | None = None


@dataclass(frozen=True, slots=True)
class Bound:
    """`binding` names the link that sets `seconds`; empty if nothing is known of any link."""

    seconds: float
    binding: str


def minimum_seconds(size_bytes: int, source_up: float | None, sites: Sequence[Site]) -> Bound:
    """D_min for a content that no host of `sites` has. Sites without hosts count for nothing."""
    bounds = [Bound(0.0, ""), _term(size_bytes, source_up, "source uplink")]
    for site in sites:
        if site.hosts:
            bounds += _site_terms(size_bytes, site)
    return max(bounds, key=lambda bound: bound.seconds)


def efficiency(size_bytes: int, source_up: float | None, sites: Sequence[Site], actual_seconds: float) -> float | None:
    """D_min over the time it took; None if nothing is known of the links or it took none."""
    bound = minimum_seconds(size_bytes, source_up, sites).seconds
    return bound / actual_seconds if bound > 0 and actual_seconds > 0 else None


def gate_count(wan: float | None, uplinks: Sequence[float | None]) -> int:
    """The smallest number of hosts whose uplinks together are twice the WAN, fastest first; all if they are not."""
    known = sorted((up for up in uplinks if up is not None), reverse=True)
    if wan is None or not known:
        return min(len(uplinks), UNKNOWN_GATES)
    total = 0.0
    for count, up in enumerate(known, 1):
        total += up
        if total >= GATE_UPLINK_PER_WAN * wan:
            return count
    return len(uplinks)


def copies_budget(size_bytes: int, source_up: float | None, bound_seconds: float, hosts: int) -> float:
    """How many copies the source can send while the slowest link is busy anyway: u_s D_min / F, from 1 to `hosts`.

    1 while the source's own link is the slowest or unknown.
    """
    if source_up is None or size_bytes <= 0:
        return 1.0
    return min(max(source_up * bound_seconds / size_bytes, 1.0), max(float(hosts), 1.0))


def lease_copies(source_up: float | None, host: Host, hosts: int) -> float | None:
    """How many copies `hosts` with links like `host` need from the source in the least time: what they cannot give each
    other, and no more than `copies_budget`. None: too little is known of the links.

    With uplinks as wide as their downlinks one copy is enough, however fat the source.
    """
    if source_up is None or host.up is None or hosts <= 0:
        return None
    site = Site("", [host] * hosts, regional_up=source_up)
    bound = minimum_seconds(_ANY_SIZE, None, [site]).seconds
    missing = hosts - hosts * host.up * bound / _ANY_SIZE
    return max(min(copies_budget(_ANY_SIZE, source_up, bound, hosts), missing), 1.0)


def _site_terms(size: int, site: Site) -> list[Bound]:
    downs = [host.down for host in site.hosts if host.down is not None]
    slowest = min(downs) if downs else None
    entering = site.regional_up if site.regional else site.wan
    terms = [
        _term(size, site.wan, f"WAN {site.name}"),
        _term(size, slowest, f"slowest host {site.name}"),
    ]
    if site.regional:
        terms.append(_term(size, site.regional_up, f"regional uplink {site.name}"))
    ups = [host.up for host in site.hosts]
    if entering is not None and all(up is not None for up in ups):
        together = entering + sum(up for up in ups if up is not None)
        terms.append(_term(len(ups) * size, together, f"aggregate upload {site.name}"))
    return terms


def _term(size: int, rate: float | None, binding: str) -> Bound:
    if rate is None:
        return Bound(0.0, "")
    return Bound(size / rate, binding) if rate > 0 else Bound(float("inf"), binding)
