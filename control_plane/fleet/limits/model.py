"""Policies of link use, and the rules that they amount to for one IDC or host; pure.

A host's word on a link replaces its IDC's, an IDC's the platform's; a tenant's holds within each link of every IDC.
Within one policy a window of the day stands before what is always true. Rates are payload in Mbit/s (10^6 bits).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from common.errors import Invalid, NotFound
from common.limits import BYTES_PER_MBIT, DailyWindow, LimitRule, Link, rates_at, zone_known

MOST_WINDOWS = 24
SLOWEST_MBPS, FASTEST_MBPS = 0.1, 1_000_000.0
HOST_LINKS = (Link.HOST_UP, Link.HOST_DOWN)
# Its own, and those of its hosts, by which it plans how many copies it sends.
REGIONAL_LINKS = (Link.WAN_DOWN, Link.REGIONAL_UP, Link.HOST_UP, Link.HOST_DOWN)


class LimitInvalid(Invalid):
    code = "limit_invalid"


class LimitUnknown(NotFound):
    code = "limit_unknown"


class ScopeKind(StrEnum):
    PLATFORM = "platform"
    IDC = "idc"
    HOST = "host"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class Scope:
    """`target_id` is empty for the platform, else an IDC's, a host's or a tenant's."""

    kind: ScopeKind
    target_id: str = ""


Mbps = Mapping[Link, float]


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    window: DailyWindow
    rates: Mbps


@dataclass(frozen=True, slots=True)
class LimitPolicy:
    """Links without a rate are not limited by it."""

    rates: Mbps = field(default_factory=dict)
    windows: Sequence[WindowPolicy] = ()

    @property
    def empty(self) -> bool:
        return not self.rates and not self.windows

    def speaks_of(self, link: Link) -> bool:
        return link in self.rates or any(link in one.rates for one in self.windows)


Policies = Mapping[Scope, LimitPolicy]


def check(policy: LimitPolicy) -> LimitPolicy:
    """`policy` itself. Raises `LimitInvalid`."""
    if len(policy.windows) > MOST_WINDOWS:
        raise LimitInvalid(f"{len(policy.windows)} windows were given", action=f"give at most {MOST_WINDOWS}")
    for rates in (policy.rates, *(one.rates for one in policy.windows)):
        for link, mbps in rates.items():
            if not SLOWEST_MBPS <= mbps <= FASTEST_MBPS:
                raise LimitInvalid(
                    f"{mbps:g} Mbit/s is no limit for {link.value}",
                    action=f"give {SLOWEST_MBPS:g} to {FASTEST_MBPS:,.0f}, or leave it out for none",
                )
    for one in policy.windows:
        if not zone_known(one.window.time_zone):
            raise LimitInvalid(
                f"there is no time zone {one.window.time_zone[:80]!r}", action="use an IANA name like Europe/Berlin"
            )
    return policy


def check_for(kind: ScopeKind, policy: LimitPolicy) -> LimitPolicy:
    """`policy` itself. Raises `LimitInvalid`, also for links that such a scope does not have."""
    check(policy)
    strange = [link.value for link in Link if link not in HOST_LINKS and policy.speaks_of(link)]
    if kind is ScopeKind.HOST and strange:
        raise LimitInvalid(f"{' and '.join(strange)} is no link of a host", action="give host_up and host_down")
    return policy


def rules_for(policies: Policies, idc_id: str, links: Sequence[Link], host_id: str = "") -> list[LimitRule]:
    """What an edge of that IDC (a host, if its id is given) keeps on its `links`, in the order in which it looks."""
    scopes = (Scope(ScopeKind.HOST, host_id), Scope(ScopeKind.IDC, idc_id), Scope(ScopeKind.PLATFORM))
    said = [policies[scope] for scope in scopes if scope in policies]
    tenants = {scope.target_id: one for scope, one in policies.items() if scope.kind is ScopeKind.TENANT}
    rules: list[LimitRule] = []
    for link in links:
        rules += _rules(next((one for one in said if one.speaks_of(link)), LimitPolicy()), link)
        for tenant_id in sorted(tenants):
            rules += _rules(tenants[tenant_id], link, tenant_id)
    return rules


def link_rates(policies: Policies, idc_id: str, moment: datetime) -> dict[Link, float]:
    """Bytes per second that are allowed now on each link of the IDC; links without a limit are absent."""
    rules = rules_for(policies, idc_id, tuple(Link))
    return {link: float(rate) for link in Link if (rate := rates_at(rules, link, moment).whole)}


def _rules(policy: LimitPolicy, link: Link, tenant_id: str = "") -> list[LimitRule]:
    rules = [
        LimitRule(link, _bytes(one.rates[link]), tenant_id, one.window) for one in policy.windows if link in one.rates
    ]
    if link in policy.rates:
        rules.append(LimitRule(link, _bytes(policy.rates[link]), tenant_id))
    return rules


def _bytes(mbps: float) -> int:
    return round(mbps * BYTES_PER_MBIT)
