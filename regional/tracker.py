"""The IDC's private BitTorrent tracker, without its sockets: who is in which swarm, and whom to name to whom (BEP 3,
BEP 7, BEP 23); pure.

Invariants: a peer is named only to peers of the same swarm; the regional's own peer is named only to a leecher that has
nobody else for some seconds, because what it sends as a peer it sends twice (leases.py is how it gives); swarms and
peers are bounded, and a peer that stops announcing is forgotten. Who may ask is decided before this module.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from common.bittorrent import bencode
from common.errors import Invalid, RateLimited

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
# A peer's identity: its bearer and address family. One agent runs one peer, so a restarted agent replaces its old port
# at once instead of leaving a dead one until it expires; a dual-stack agent announces once per family (BEP 7).
_PeerKey: TypeAlias = "tuple[str, int]"

INTERVAL_SECONDS = 15
MINIMUM_INTERVAL_SECONDS = 5
_EXPIRY_SECONDS = 3 * INTERVAL_SECONDS
# A leecher that is alone for so long gets nothing by leases either.
_ALONE_SECONDS = 10.0
_DEFAULT_WANTED = 50
_MAXIMUM_WANTED = 100


class AnnounceInvalid(Invalid):
    code = "announce_invalid"


class TrackerFull(RateLimited):
    code = "tracker_full"


@dataclass(frozen=True, slots=True)
class Endpoint:
    address: Address
    port: int

    def compact(self) -> bytes:
        return self.address.packed + self.port.to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class Announce:
    """One announce of an authorised bearer. `left_bytes` 0: it is a seed."""

    info_hash: bytes
    bearer: str
    endpoint: Endpoint
    left_bytes: int
    stopped: bool = False
    wanted: int = _DEFAULT_WANTED


@dataclass(slots=True)
class _Peer:
    endpoint: Endpoint
    left_bytes: int
    seen_at: float
    since: float


@dataclass(slots=True)
class _Swarm:
    peers: dict[_PeerKey, _Peer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one announce is told."""

    peers: tuple[Endpoint, ...]
    seeds: int
    leechers: int

    def encode(self) -> bytes:
        four = b"".join(peer.compact() for peer in self.peers if peer.address.version == 4)
        six = b"".join(peer.compact() for peer in self.peers if peer.address.version == 6)
        return bencode.encode(
            {
                b"complete": self.seeds,
                b"incomplete": self.leechers,
                b"interval": INTERVAL_SECONDS,
                b"min interval": MINIMUM_INTERVAL_SECONDS,
                b"peers": four,
                b"peers6": six,
            }
        )


def failure_answer(reason: str) -> bytes:
    """BEP 3: a refused announce is HTTP 200 with a reason and no peers."""
    return bencode.encode({b"failure reason": reason.encode()})


class Tracker:
    """`own_peers`: the regional's BitTorrent endpoints. `monotonic`: seconds; `random`: floats in [0, 1). `shuns`
    (`Offenders.shuns`): who, in the swarm of that info-hash, is named to nobody and told of nobody but us.
    """

    def __init__(
        self,
        own_peers: tuple[Endpoint, ...],
        monotonic: Callable[[], float],
        random: Callable[[], float],
        *,
        maximum_swarms: int = 10_000,
        maximum_peers: int = 2_000,
    ) -> None:
        self._own_peers = own_peers
        self._monotonic = monotonic
        self._random = random
        self._maximum_swarms = maximum_swarms
        self._maximum_peers = maximum_peers
        self._swarms: dict[bytes, _Swarm] = {}
        self.shuns: Callable[[bytes, str], bool] = lambda info_hash, bearer: False

    def announce(self, announce: Announce) -> Answer:
        """Raises `TrackerFull` when a bound is reached; peers that are known already are always served."""
        swarm = self._swarms.get(announce.info_hash) or _Swarm()
        self._expire(swarm)
        key = announce.bearer, announce.endpoint.address.version
        if announce.stopped:
            swarm.peers.pop(key, None)
            self._keep(announce.info_hash, swarm)
            return Answer((), *_counts(swarm))
        if key not in swarm.peers and len(swarm.peers) >= self._maximum_peers:
            raise TrackerFull("the swarm has as many peers as the tracker keeps", retry_after_seconds=INTERVAL_SECONDS)
        if announce.info_hash not in self._swarms and not self._make_room():
            raise TrackerFull("the tracker has as many swarms as it keeps", retry_after_seconds=INTERVAL_SECONDS)
        now, known = self._monotonic(), swarm.peers.get(key)
        since = known.since if known is not None else now
        swarm.peers[key] = _Peer(announce.endpoint, announce.left_bytes, now, since)
        self._keep(announce.info_hash, swarm)
        return Answer(self._choose(swarm, announce, now - since), *_counts(swarm))

    def seeds(self, info_hash: bytes) -> frozenset[str]:
        """Bearers that announce that they have everything, and are believed."""
        swarm = self._swarms.get(info_hash)
        if swarm is None:
            return frozenset()
        self._expire(swarm)
        whole = (bearer for (bearer, _), peer in swarm.peers.items() if not peer.left_bytes)
        return frozenset(bearer for bearer in whole if not self.shuns(info_hash, bearer))

    def bearer_at(self, info_hash: bytes, source: Endpoint) -> str | None:
        """Who announced from there. Somebody who was called from that address has another port than the one it listens
        on; if it is the only one there, it is meant all the same.
        """
        swarm = self._swarms.get(info_hash)
        if swarm is None:
            return None
        self._expire(swarm)
        there = {bearer: peer for (bearer, _), peer in swarm.peers.items() if peer.endpoint.address == source.address}
        exact = [bearer for bearer, peer in there.items() if peer.endpoint.port == source.port]
        found = exact or list(there)
        return found[0] if len(found) == 1 else None

    def forget(self, info_hash: bytes) -> None:
        self._swarms.pop(info_hash, None)

    def peer_count(self) -> int:
        for swarm in self._swarms.values():
            self._expire(swarm)
        return sum(len(swarm.peers) for swarm in self._swarms.values())

    def swarm_count(self) -> int:
        return len(self._swarms)

    def _choose(self, swarm: _Swarm, announce: Announce, present_seconds: float) -> tuple[Endpoint, ...]:
        wanted = max(0, min(announce.wanted, _MAXIMUM_WANTED))
        others = [
            peer
            for (bearer, _), peer in swarm.peers.items()
            # A seed has nothing to ask of a seed; to name one would only cost both a connection.
            if peer.endpoint != announce.endpoint
            and (announce.left_bytes or peer.left_bytes)
            and not self.shuns(announce.info_hash, bearer)
        ]
        if self.shuns(announce.info_hash, announce.bearer):
            others = []
        # A random graph is connected with high probability at our degree; nearness inside an IDC is not worth a bias.
        others.sort(key=lambda _: self._random())
        if not others and announce.left_bytes and present_seconds >= _ALONE_SECONDS:
            return self._own_peers[:wanted]
        return tuple(peer.endpoint for peer in others[:wanted])

    def _make_room(self) -> bool:
        if len(self._swarms) < self._maximum_swarms:
            return True
        for info_hash, swarm in list(self._swarms.items()):
            self._expire(swarm)
            if not swarm.peers:
                del self._swarms[info_hash]
        return len(self._swarms) < self._maximum_swarms

    def _keep(self, info_hash: bytes, swarm: _Swarm) -> None:
        if swarm.peers:
            self._swarms[info_hash] = swarm
        else:
            self._swarms.pop(info_hash, None)

    def _expire(self, swarm: _Swarm) -> None:
        oldest = self._monotonic() - _EXPIRY_SECONDS
        for key in [key for key, peer in swarm.peers.items() if peer.seen_at < oldest]:
            del swarm.peers[key]


def _counts(swarm: _Swarm) -> tuple[int, int]:
    """(seeds, leechers). The regional itself is not counted: it does not announce."""
    seeds = sum(1 for peer in swarm.peers.values() if not peer.left_bytes)
    return seeds, len(swarm.peers) - seeds
