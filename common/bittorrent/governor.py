"""Keeps a BitTorrent engine within the lines that it shares with HTTP: what it moved is charged to them, and several
times a second it is told what it may move, in all and for each torrent.

Invariant: a torrent of lower effort gets what the line says is left (`Line.lower_rate`), a tenant's torrents together
no more than the tenant's limit; an engine that nobody limits is told nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.bittorrent import PeerSession, RateLimits, TorrentHandle, TorrentStatus
from common.links import Line

ROUND_SECONDS = 0.25
# Limits are told again when they differ by more than this share.
_WORTH_TELLING = 0.05


@dataclass(frozen=True, slots=True)
class Governed:
    handle: TorrentHandle
    tenant_id: str
    lower: bool


@dataclass(frozen=True, slots=True)
class _Moved:
    """Of one torrent since the last round."""

    torrent: Governed
    received: int
    sent: int
    complete: bool


class Governor:
    """Call `round` every `ROUND_SECONDS`. `down`, `up`: None if nothing limits that direction."""

    def __init__(self, session: PeerSession, torrents: Callable[[], Sequence[Governed]], down: Line, up: Line) -> None:
        self._session = session
        self._torrents = torrents
        self._down = down
        self._up = up
        self._seen: dict[TorrentHandle, TorrentStatus] = {}
        self._told: dict[TorrentHandle, RateLimits] = {}
        self._told_session = (RateLimits(), False)

    def round(self) -> None:
        moved = self._measure()
        for one in moved:
            torrent = one.torrent
            self._down.charge(one.received, torrent.tenant_id, lower=torrent.lower)
            self._up.charge(one.sent, torrent.tenant_id, lower=torrent.lower)
        self._limit_session(moved)
        told = {one.torrent.handle: self._limit(one, moved) for one in moved}
        for handle, limits in told.items():
            if _differ(limits, self._told.get(handle, RateLimits())):
                handle.set_limits(limits)
            else:
                told[handle] = self._told.get(handle, RateLimits())
        self._told = told

    def _measure(self) -> list[_Moved]:
        found, seen = [], {}
        for torrent in self._torrents():
            status = seen[torrent.handle] = torrent.handle.status()
            before = self._seen.get(torrent.handle)
            received = _received(status) - (_received(before) if before else 0)
            sent = status.sent_bytes - (before.sent_bytes if before else 0)
            found.append(_Moved(torrent, max(received, 0), max(sent, 0), status.complete))
        self._seen = seen
        return found

    def _limit_session(self, moved: Sequence[_Moved]) -> None:
        limits = RateLimits(_whole(self._down.engine_rate()), _whole(self._up.engine_rate()))
        lower = bool(moved) and all(one.torrent.lower for one in moved)
        before, before_lower = self._told_session
        if lower != before_lower or _differ(limits, before):
            self._session.set_limits(limits, lower_effort=lower)
            self._told_session = limits, lower

    def _limit(self, one: _Moved, moved: Sequence[_Moved]) -> RateLimits:
        return RateLimits(
            _whole(_part(self._down, one, [each for each in moved if not each.complete])),
            _whole(_part(self._up, one, [each for each in moved if each.sent])),
        )


def _part(line: Line, one: _Moved, active: Sequence[_Moved]) -> float:
    """Equal parts for those who move something, and for the one that may begin to."""
    torrent = one.torrent
    others = [each for each in active if each is not one]
    same_tenant = 1 + sum(each.torrent.tenant_id == torrent.tenant_id for each in others)
    part = line.tenant_rate(torrent.tenant_id) / same_tenant
    if torrent.lower:
        part = min(part, line.lower_rate() / (1 + sum(each.torrent.lower for each in others)))
    return part


def _received(status: TorrentStatus) -> int:
    return status.from_agents_bytes + status.from_regionals_bytes


def _whole(rate: float) -> int:
    """In the port's words, where 0 is no limit."""
    return 0 if math.isinf(rate) else max(1, int(rate))


def _differ(one: RateLimits, other: RateLimits) -> bool:
    return any(
        (a == 0) != (b == 0) or abs(a - b) > _WORTH_TELLING * max(a, b)
        for a, b in ((one.download, other.download), (one.upload, other.upload))
    )
