"""Hosts that share one content, with rates instead of sockets: a source that leases, peers that give rarest first.

Each line sends whole pieces one after another at its rate: the source's to whoever has a lease, a host's to another
host that lacks the piece. Hosts ask for leases as agents do: two at a time, what they hold as they ask. Time jumps from
event to event, so that a run is exact and the same every time.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field

from common.spreading import masks
from common.spreading.exchange import Question
from common.spreading.leases import Budget, LeaseBook, Shape
from common.spreading.model import Host, Site, minimum_seconds

MEBIBYTE = 1 << 20
_LOOK_SECONDS = 0.25


@dataclass
class Peer:
    name: str
    up: float
    down: float = 1e12
    held: int = 0
    coming: int = 0
    leases: list[range] = field(default_factory=list)
    fetching: int = 0
    peer_bytes: int = 0
    source_rate: float = 0.0
    alive: bool = True
    busy_until: float = 0.0
    done_at: float | None = None


@dataclass
class Outcome:
    seconds: float
    copies: float
    efficiency: float


class Simulation:
    """`wan`: the rate at which the source itself gets the pieces, in order; None: it has them all."""

    def __init__(
        self,
        shape: Shape,
        source_up: float,
        peers: list[Peer],
        *,
        wan: float | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.shape = shape
        self.source_up = source_up
        self.peers = {peer.name: peer for peer in peers}
        self.wan = wan
        self.book = LeaseBook(shape, budget or Budget())
        self.everything = masks.full(shape.piece_count)
        self.now = 0.0
        self.source_bytes = 0
        self._source_busy_until = 0.0
        self._queue: list[tuple[str, int]] = []
        self._events: list[tuple[float, int, str, tuple[object, ...]]] = []
        self._order = itertools.count()
        self._counts = [0] * shape.piece_count

    def run(self, limit_seconds: float = 10_000.0) -> Outcome:
        for number, name in enumerate(self.peers):
            self._at(0.01 * number, "ask", name)
        while self._events and any(peer.done_at is None for peer in self.peers.values() if peer.alive):
            self.now, _, kind, arguments = heapq.heappop(self._events)
            if self.now > limit_seconds:
                raise AssertionError(f"not spread after {limit_seconds} s")
            getattr(self, f"_{kind}")(*arguments)
        seconds = max(peer.done_at or 0.0 for peer in self.peers.values() if peer.alive)
        hosts = [Host(peer.up, peer.down) for peer in self.peers.values()]
        site = Site("x", hosts, wan=self.wan, regional_up=self.source_up)
        bound = minimum_seconds(self.shape.length, self.source_up, [site]).seconds
        return Outcome(seconds, self.source_bytes / self.shape.length, bound / seconds)

    def kill(self, name: str, at: float) -> None:
        self._at(at, "die", name)

    def _at(self, moment: float, kind: str, *arguments: object) -> None:
        heapq.heappush(self._events, (moment, next(self._order), kind, arguments))

    def _available(self) -> int | None:
        if self.wan is None:
            return None
        return masks.full(min(int(self.now * self.wan / self.shape.piece_length), self.shape.piece_count))

    def _ask(self, name: str) -> None:
        peer = self.peers[name]
        if not peer.alive or peer.done_at is not None:
            return
        while len(peer.leases) < 2:
            question = Question(
                peer.held,
                tuple(peer.leases),
                rate=peer.source_rate,
                source_rate=peer.source_rate,
                peer_bytes=peer.peer_bytes,
            )
            grant = self.book.ask(name, question, self.now, available=self._available())
            if grant.run is None:
                self._at(self.now + _LOOK_SECONDS, "ask", name)
                return
            peer.leases.append(grant.run)
            self._queue += [(name, piece) for piece in grant.run]
            self._serve()

    def _serve(self) -> None:
        """The source's line: leases take turns, as connections would."""
        if self._source_busy_until > self.now or not self._queue:
            return
        name, piece = self._queue.pop(0)
        if not self.peers[name].alive:
            self._serve()
            return
        self._source_busy_until = self.now + self.shape.piece_length / min(self.source_up, self.peers[name].down)
        self.source_bytes += self.shape.piece_length
        self._at(self._source_busy_until, "leased", name, piece)

    def _leased(self, name: str, piece: int) -> None:
        peer = self.peers[name]
        self._serve()
        if not peer.alive:
            return
        peer.source_rate = self.source_up / max(len(self.peers), 1)
        for lease in list(peer.leases):
            if lease.stop - 1 == piece:
                peer.leases.remove(lease)
        self._gain(peer, piece)
        self._ask(name)

    def _given(self, giver: str, name: str, piece: int) -> None:
        peer = self.peers[name]
        if peer.alive and self.peers[giver].alive:
            peer.peer_bytes += self.shape.piece_length
            self._gain(peer, piece)
        elif peer.alive:
            peer.coming &= ~(1 << piece)
        self._give(self.peers[giver])

    def _gain(self, peer: Peer, piece: int) -> None:
        peer.coming &= ~(1 << piece)
        if not peer.held >> piece & 1:
            peer.held |= 1 << piece
            self._counts[piece] += 1
        if peer.held == self.everything and peer.done_at is None:
            peer.done_at = self.now
            self.book.ask(peer.name, Question(peer.held, peer_bytes=peer.peer_bytes), self.now)
        for giver in self.peers.values():
            self._give(giver)

    def _give(self, giver: Peer) -> None:
        """Its line: the piece that the fewest hold, to whoever lacks most."""
        if not giver.alive or giver.busy_until > self.now:
            return
        best: tuple[int, int, Peer, int] | None = None
        for peer in self.peers.values():
            if peer is giver or not peer.alive:
                continue
            wanted = giver.held & ~peer.held & ~peer.coming
            for lease in peer.leases:
                wanted &= ~masks.of_range(lease)
            while wanted:
                piece = (wanted & -wanted).bit_length() - 1
                wanted &= wanted - 1
                rank = (self._counts[piece], peer.held.bit_count())
                if best is None or rank < best[:2]:
                    best = (*rank, peer, piece)
        if best is None:
            return
        _, _, peer, piece = best
        peer.coming |= 1 << piece
        giver.busy_until = self.now + self.shape.piece_length / min(giver.up, peer.down)
        self._at(giver.busy_until, "given", giver.name, peer.name, piece)

    def _die(self, name: str) -> None:
        peer = self.peers[name]
        peer.alive = False
        for piece in range(self.shape.piece_count):
            if peer.held >> piece & 1:
                self._counts[piece] -= 1
