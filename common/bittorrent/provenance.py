"""Where a torrent's bytes came from: samples of its connections in, totals by kind of source out. Pure.

Invariant: totals never shrink and add up to the torrent's own count. A connection's last total stays counted when it
goes. What it moved between its last sample and its end (at most one sampling interval of that peer) is not seen; the
torrent's own count shows that it is missing, and it is given to the kinds that left since, or else in proportion to the
totals, or else, nothing being known, to agents. After `complete()` this remainder is zero unless a peer hung up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    AGENT = "agent"
    REGIONAL = "regional"


@dataclass(frozen=True, slots=True)
class Connection:
    """One sampled connection; `key` tells it from all others that live at the same time."""

    key: tuple[str, int, bytes]
    kind: Kind
    received_bytes: int


class Provenance:
    def __init__(self) -> None:
        self._settled = dict.fromkeys(Kind, 0)
        self._live: dict[tuple[str, int, bytes], Connection] = {}
        self._departed: set[Kind] = set()

    def observe(self, connections: Iterable[Connection], total_bytes: int) -> None:
        """`total_bytes`: payload of the whole torrent since it was added, read before the connections were."""
        seen: dict[tuple[str, int, bytes], Connection] = {}
        for connection in connections:
            before = self._live.pop(connection.key, None)
            if before is not None and before.received_bytes > connection.received_bytes:
                self._settle(before)
            seen[connection.key] = connection
        for gone in self._live.values():
            self._settle(gone)
        self._live = seen
        self._spread(total_bytes - sum(self.totals().values()))
        self._departed.clear()

    def departed(self, kind: Kind) -> None:
        """A connection of that kind ended; called as it happens, between samples."""
        self._departed.add(kind)

    def end(self) -> None:
        """Every connection is gone; new ones will start at zero."""
        for connection in self._live.values():
            self._settle(connection)
        self._live = {}

    def totals(self) -> dict[Kind, int]:
        totals = dict(self._settled)
        for connection in self._live.values():
            totals[connection.kind] += connection.received_bytes
        return totals

    def _settle(self, connection: Connection) -> None:
        self._settled[connection.kind] += connection.received_bytes

    def _spread(self, remainder: int) -> None:
        if remainder <= 0:
            return
        totals = self.totals()
        weights = {kind: 1 for kind in Kind if kind in self._departed} or {k: v for k, v in totals.items() if v}
        weights = weights or {Kind.AGENT: 1}
        whole, left = sum(weights.values()), remainder
        for kind, weight in weights.items():
            share = remainder * weight // whole
            self._settled[kind] += share
            left -= share
        self._settled[max(weights, key=lambda kind: weights[kind])] += left
