"""Deterministic BitTorrent peers of one process, for simulations and tests of services.

Invariant: the same calls in the same order move the same pieces in the same order. There is no thread, no socket and no
randomness, and a clock only for certificates, which are judged when two peers of a TLS swarm meet, as in a handshake:
in each turn of the event loop every torrent that misses something takes one piece, from the connected peers in turn, in
the order in which the torrents were added. Pieces are verified and the files are real, so a service cannot tell the
difference; file access is direct, since a simulation has nothing else to wait for.

Faults: `Fault.CORRUPT` sends false bytes, `Fault.SILENT` never answers; `fill_disk` makes a folder full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from common.bittorrent import AGENT_FINGERPRINT, BannedPeer, RateLimits, Torrent
from common.bittorrent.failures import SessionClosed, TorrentKnown
from common.bittorrent.memory_rates import MemoryRates
from common.bittorrent.memory_torrent import Fault, MemoryTorrent
from common.bittorrent.metainfo import Metainfo
from common.clock import Clock, SystemClock

__all__ = ["Fault", "MemorySession", "MemorySwarm"]

_FIRST_PORT = 50_001


class MemorySwarm:
    """The network: its peers, trackers (any URL is one) and full folders. `clock`: by which certificates expire."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._torrents: dict[MemoryTorrent, None] = {}
        self._by_hash: dict[bytes, dict[MemoryTorrent, None]] = {}
        # Kept as torrents come and go: asking each time would cost the square of the peers in every turn.
        self._neighbours: dict[MemoryTorrent, list[MemoryTorrent]] = {}
        self._room: dict[Path, int] = {}
        self._next_port = _FIRST_PORT
        self._turning = False

    def session(self, fingerprint: bytes = AGENT_FINGERPRINT, *, fault: Fault | None = None) -> MemorySession:
        session = MemorySession(self, self._next_port, fingerprint, fault)
        self._next_port += 1
        return session

    def fill_disk(self, folder: Path, room_bytes: int) -> None:
        """From now on `folder` takes that many bytes of pieces and no more."""
        self._room[folder] = room_bytes

    def empty_disk(self, folder: Path) -> None:
        self._room.pop(folder, None)

    # What the torrents use.

    def enter(self, torrent: MemoryTorrent) -> None:
        self._torrents[torrent] = None
        self._by_hash.setdefault(torrent.metainfo.info_hash, {})[torrent] = None
        self.introduce(torrent)

    def leave(self, torrent: MemoryTorrent) -> None:
        if self._torrents.pop(torrent, self) is self:
            return
        self._part(torrent)
        others = self._by_hash[torrent.metainfo.info_hash]
        del others[torrent]
        if not others:
            del self._by_hash[torrent.metainfo.info_hash]

    def introduce(self, torrent: MemoryTorrent) -> None:
        """Neighbours have the same info-hash, and one named the other or both use one tracker."""
        self._part(torrent)
        others = self._by_hash[torrent.metainfo.info_hash]
        now = self._clock.now()
        met = self._neighbours[torrent] = [
            other for other in others if _met(torrent, other) and torrent.may_meet(now) and other.may_meet(now)
        ]
        for other in met:
            self._neighbours[other].append(torrent)
        self.wake()

    def neighbours(self, torrent: MemoryTorrent) -> Sequence[MemoryTorrent]:
        """As they met."""
        return self._neighbours.get(torrent, ())

    def _part(self, torrent: MemoryTorrent) -> None:
        for other in self._neighbours.pop(torrent, ()):
            self._neighbours[other].remove(torrent)

    def take_room(self, folder: Path, size: int) -> bool:
        room = self._room.get(folder)
        if room is not None and room >= size:
            self._room[folder] = room - size
        return room is None or room >= size

    def wake(self) -> None:
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turning = False
        moved = False
        for torrent in list(self._torrents):
            moved |= torrent.take_one()
        if moved:
            self.wake()


class MemorySession:
    """A `PeerSession`; made by `MemorySwarm.session`."""

    def __init__(self, swarm: MemorySwarm, port: int, fingerprint: bytes, fault: Fault | None) -> None:
        self._swarm = swarm
        self._port = port
        self._fingerprint = fingerprint
        self._fault = fault
        self._torrents: dict[bytes, MemoryTorrent] = {}
        self._rates = MemoryRates(swarm.wake)
        self._open = True
        self.banned: Callable[[BannedPeer], None] = lambda peer: None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def listen_port(self) -> int:
        return self._port

    async def add(self, torrent: Torrent) -> MemoryTorrent:
        key = torrent.metainfo.info_hash
        if not self._open:
            raise SessionClosed("the BitTorrent session is not open", action="stop using it")
        if key in self._torrents:
            raise TorrentKnown(f"the torrent of {torrent.metainfo.name} is there already", action="use its handle")
        handle = MemoryTorrent(
            self._swarm, self._port, self._fingerprint, self._fault, torrent, self._forget, self._rates
        )
        handle.tell_banned = lambda peer: self.banned(peer)
        self._torrents[key] = handle
        self._swarm.enter(handle)
        return handle

    def set_limits(self, limits: RateLimits, *, lower_effort: bool = False) -> None:
        """Nothing to mark: there are no packets."""
        self._rates.set(limits)

    async def close(self) -> None:
        self._open = False
        for torrent in list(self._torrents.values()):
            await torrent.remove()

    def _forget(self, metainfo: Metainfo) -> None:
        self._torrents.pop(metainfo.info_hash, None)


def _met(one: MemoryTorrent, other: MemoryTorrent) -> bool:
    return one is not other and (
        other.port in one.named or one.port in other.named or not one.trackers.isdisjoint(other.trackers)
    )
