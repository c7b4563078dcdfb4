"""When a preheat's bytes may move, and which hosts it chooses; pure.

Invariant: the choice of hosts depends on the preheat and the hosts alone, so every replica at every time makes the same
one, and a host more or less changes it at one place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

from common.limits import zone_known, zone_of
from control_plane.preheats.model import Candidate, Preheat, PreheatInvalid, PreheatRequest, State, Targets, Window
from control_plane.swarm.model import Effort

MOST_HOSTS = 10_000
_MOST_LABELS = 16


def check(request: PreheatRequest, now: datetime) -> None:
    """Raises `PreheatInvalid`."""
    targets, window = request.targets, request.window
    if not 1 <= targets.percentage <= 100:
        raise PreheatInvalid(f"{targets.percentage} percent was asked for", action="give 1 to 100")
    if targets.hosts and (targets.labels or targets.idcs or targets.percentage != 100):
        raise PreheatInvalid(
            "hosts are named and also chosen", action="name hosts, or choose by IDC, label and percentage"
        )
    if targets.regionals_only and (targets.hosts or targets.labels or targets.percentage != 100):
        raise PreheatInvalid("hosts are chosen for regionals only", action="leave hosts, labels and percentage out")
    if len(targets.labels) > _MOST_LABELS:
        raise PreheatInvalid(f"{len(targets.labels)} labels were given", action=f"give at most {_MOST_LABELS}")
    if window.ends_at is not None and window.ends_at <= max(now, window.starts_at or now):
        raise PreheatInvalid("the window ends before it begins", action="give an end that is still to come")
    if request.keep_until is not None and request.keep_until <= now:
        raise PreheatInvalid("it would expire at once", action="give a moment to come, or none for a pin")
    if window.daily is not None and not zone_known(window.daily.time_zone):
        raise PreheatInvalid(
            f"there is no time zone {window.daily.time_zone[:80]!r}", action="use an IANA name like Europe/Berlin"
        )


def standing(preheat: Preheat, now: datetime) -> State:
    if preheat.cancelled:
        return State.CANCELLED
    if preheat.ended_at is not None or (preheat.keep_until is not None and preheat.keep_until <= now):
        return State.EXPIRED
    window = preheat.window
    if window.ends_at is not None and window.ends_at <= now:
        return State.KEPT
    return State.ACTIVE if _open(window, now) else State.WAITING


def effort_of(preheat: Preheat, state: State) -> Effort:
    if state is not State.ACTIVE:
        return Effort.PAUSED
    return Effort.LOWER if preheat.lower_effort else Effort.ORDINARY


def next_change(preheat: Preheat, now: datetime) -> datetime | None:
    """The first moment after `now` at which `standing` may differ; None: it never will."""
    state = standing(preheat, now)
    if state in (State.EXPIRED, State.CANCELLED):
        return None
    window = preheat.window
    moments = [moment for moment in (window.starts_at, window.ends_at, preheat.keep_until) if moment and moment > now]
    if window.daily is not None and not window.daily.whole_day and state is not State.KEPT:
        begin = max(now, window.starts_at or now)
        if (edge := _next_edge(window, begin)) is not None:
            moments.append(edge)
    return min(moments, default=None)


def choose(candidates: Sequence[Candidate], targets: Targets, salt: str) -> list[Candidate]:
    """In the order of host ids. A percentage is rounded up: of three hosts, one per cent is one."""
    architectures = targets.architectures
    fitting = [
        one
        for one in candidates
        if all(one.labels.get(key) == value for key, value in targets.labels.items())
        and (not architectures or one.architecture in architectures)
    ]
    count = -(-len(fitting) * targets.percentage // 100)
    ranked = sorted(fitting, key=lambda one: hashlib.sha256(f"{salt}\0{one.host_id}".encode()).digest())
    return sorted(ranked[:count], key=lambda one: one.host_id)


def _open(window: Window, now: datetime) -> bool:
    if window.starts_at is not None and now < window.starts_at:
        return False
    return window.daily is None or window.daily.open_at(now)


def _next_edge(window: Window, after: datetime) -> datetime | None:
    """The next begin or end of the daily window. Where a clock change skips it, the moment after the gap."""
    daily = window.daily
    if daily is None:
        return None
    local = after.astimezone(zone_of(daily.time_zone)).replace(second=0, microsecond=0)
    edges = []
    for days in (0, 1):
        day = local.replace(hour=0, minute=0, tzinfo=None) + timedelta(days=days)
        for minute in (daily.from_minute, daily.until_minute):
            moment = (day + timedelta(minutes=minute)).replace(tzinfo=local.tzinfo).astimezone(after.tzinfo)
            if moment > after:
                edges.append(moment)
    return min(edges, default=None)
