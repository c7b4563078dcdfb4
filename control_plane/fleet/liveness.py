"""Who counts as alive; pure.

A stream is the first evidence: it is attached, or it ended, or nothing was heard of it for three heartbeats. Discovery
(leases in etcd) only hastens the verdict: a host whose lease lapsed while its stream is silent is given up after half
of that time. After a start of the control plane nobody is declared down for three heartbeats, because everybody has to
find the way back first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from common.clock import Clock
from control_plane.fleet.model import Member, State

MISSED_HEARTBEATS = 3
# Heartbeats are jittered by 10 % (common/attachment.py); the last one may be that late, and then has to travel.
_TOLERANCE = 1.1
# A refused copy comes back after 8 minutes at most (common/patience.py); silence for longer means that it is gone.
_CONFLICT_SHOWN = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Horizon:
    """The moments that decide, for one look at the fleet.

    seen_after: an attached member counts as online if it was seen since; None: whatever was attached does, because the
    control plane started a moment ago.
    """

    seen_after: datetime | None
    conflict_after: datetime


def horizon(now: datetime, uptime_seconds: float, heartbeat_seconds: float, flush_seconds: float) -> Horizon:
    """`flush_seconds`: how often the replicas write down whom they have seen."""
    limit = silence_limit(heartbeat_seconds)
    recently = timedelta(seconds=limit + 2 * flush_seconds)
    return Horizon(None if uptime_seconds < limit else now - recently, now - _CONFLICT_SHOWN)


def silence_limit(heartbeat_seconds: float, *, lease_lapsed: bool = False) -> float:
    """Seconds without a message after which a stream is dead."""
    limit = MISSED_HEARTBEATS * heartbeat_seconds * _TOLERANCE
    return limit / 2 if lease_lapsed else limit


def state_of(member: Member, at: Horizon) -> State:
    """What people see. `store_members.in_state` asks the same question in SQL; a test holds the two together."""
    if member.revoked_at is not None:
        return State.REVOKED
    if member.conflict_at is not None and member.conflict_at > at.conflict_after:
        return State.CONFLICT
    if member.session_id is None or member.last_seen_at is None:
        return State.OFFLINE
    seen = at.seen_after is None or member.last_seen_at > at.seen_after
    return State.ONLINE if seen else State.OFFLINE


def horizons(clock: Clock, heartbeat_seconds: float, flush_seconds: float) -> Callable[[], Horizon]:
    """A look at any moment of a process that starts now."""
    started = clock.monotonic()
    return lambda: horizon(clock.now(), clock.monotonic() - started, heartbeat_seconds, flush_seconds)
