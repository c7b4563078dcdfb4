"""Port: one BitTorrent peer of this process, used by agents and by regionals.

Life cycle: `add` a `Torrent` and get a handle; wait for `complete()`; the bytes are then in the file and every piece
matched its Merkle root, which is not yet the OCI digest: the caller hashes the whole file before anybody sees it. A
complete torrent goes on seeding until `remove`. Peers are found by tracker and by `connect_peer` alone: no DHT, LSD,
PEX, UPnP.

A swarm whose metainfo names an authority is spoken in TLS alone: a peer whose certificate is not of that authority, not
for the torrent's name, or expired at the handshake gets and gives 0 bytes.

Duties: nothing blocks the event loop. A piece that does not match its root is dropped, its sender banned and counted in
`TorrentStatus.failed_bytes`. `add` of a torrent that is already there raises `Conflict`. A full disk ends `complete()`
with `Unavailable` whose code is "disk_full". Implementations: libtorrent.py; memory.py (peers of one process, for
simulations). The proof is tests/conformance/peer_session.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from common.bittorrent.credentials import Credentials
from common.bittorrent.metainfo import Metainfo

# Below this a content goes by HTTP: announces and the first round between peers cost more than its bytes (p2p
# facts: no torrent below about 4 MiB). What holds is the centre's setting; this is its default, and what agents and
# regionals go by before they were ever told.
SMALLEST_SWARM_BYTES = 4 << 20

# BEP 20 peer id prefixes: they only tell the two kinds of our peers apart in statistics; nothing is authorised by them.
AGENT_FINGERPRINT = b"-LA0100-"
REGIONAL_FINGERPRINT = b"-LR0100-"


@dataclass(frozen=True, slots=True)
class Torrent:
    """What to hold. The file is `directory / metainfo.name`.

    have: indices of pieces that the caller has just verified in that file; None: look at nothing, start empty.
    seed: the file is complete and the caller verified it by digest.
    trackers: URLs, each with its token.
    upload_only: ask no peer for anything; pieces come through `add_piece` alone (the caller writes the same file, and a
    peer's block that is not yet verified must never land in it).
    credentials: for a swarm with an authority (`Metainfo.authority_pem`); None: no peer is met until
    `set_credentials`. A swarm without one takes none.
    """

    metainfo: Metainfo
    directory: Path
    have: frozenset[int] | None = None
    seed: bool = False
    trackers: Sequence[str] = ()
    upload_only: bool = False
    credentials: Credentials | None = None


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Bytes per second of payload, kept over a second or so; 0: no limit."""

    download: int = 0
    upload: int = 0


@dataclass(frozen=True, slots=True)
class TorrentStatus:
    """Cumulative payload bytes since `add`, by source; rates in bytes per second."""

    held_bytes: int
    from_agents_bytes: int
    from_regionals_bytes: int
    sent_bytes: int
    failed_bytes: int
    download_rate: int
    upload_rate: int
    peers: int
    complete: bool


@dataclass(frozen=True, slots=True)
class BannedPeer:
    """Who sent bytes that failed their hash. `port` is the one it listens on where we called it, else any of its own;
    `fingerprint`: the first eight bytes of its peer id (BEP 20), which it chose itself.
    """

    info_hash: bytes
    address: str
    port: int
    fingerprint: str


class TorrentHandle(Protocol):
    @property
    def metainfo(self) -> Metainfo: ...

    @property
    def credentials(self) -> Credentials | None:
        """What it shows now."""
        ...

    def status(self) -> TorrentStatus:
        """The newest known state, at most a second old; never blocks."""
        ...

    async def complete(self) -> None:
        """Returns when every piece is verified and in the file. No deadline of its own: bound it outside.

        Raises `Unavailable` if the disk failed ("disk_full", "disk_failed"): the torrent stands still then, and calling
        this again verifies the file and goes on. Raises `Stale` if the torrent was removed.
        """
        ...

    async def add_piece(self, index: int, data: bytes) -> None:
        """Give a whole piece that came by another road; it is verified like any other and announced to peers.

        Returns once it is announced; harmless to repeat. Raises `Invalid` if it is not that piece.
        """
        ...

    async def have_pieces(self) -> frozenset[int]: ...

    async def read_piece(self, index: int) -> bytes:
        """The bytes of a piece once it is verified, also of one that is not yet in the file.

        No deadline of its own: bound it outside. Raises IndexError, `Stale` if the torrent was removed, `Unavailable`
        if the disk failed.
        """
        ...

    def want_soon(self, pieces: Sequence[int]) -> None:
        """Ask for these before all others, the first of them first, and no more for those of the last call; held
        ones are passed over. A hint: never blocks, harmless on a torrent that was removed.
        """
        ...

    async def connect_peer(self, host: str, port: int) -> None:
        """Within about a second; a tracker's peers are connected at once."""
        ...

    async def set_trackers(self, urls: Sequence[str]) -> None:
        """Replace the announce URLs (a token was renewed)."""
        ...

    async def set_credentials(self, credentials: Credentials | None) -> None:
        """Show this certificate from now on, and end every connection: who may, comes back within some seconds.

        None: ours has expired; meet nobody until there is another. Raises `Invalid` if the pair does not fit or the
        swarm has no authority; then nothing changed.
        """
        ...

    def set_limits(self, limits: RateLimits) -> None:
        """Of this torrent alone, within the session's. Never blocks; harmless on a torrent that was removed."""
        ...

    async def remove(self) -> None:
        """Stop; the file stays. Harmless to repeat."""
        ...


class PeerSession(Protocol):
    banned: Callable[[BannedPeer], None]
    """Called on the event loop for each peer as it is banned; set it before `add`."""

    @property
    def listen_port(self) -> int: ...

    async def add(self, torrent: Torrent) -> TorrentHandle:
        """Raises `Conflict` if it is there, `Invalid` if the file cannot be what `have` or `seed` says."""
        ...

    def set_limits(self, limits: RateLimits, *, lower_effort: bool = False) -> None:
        """Of all torrents together, whatever address a peer has. Never blocks.

        lower_effort: mark packets of connections made from now on as lower effort (RFC 8622), where an engine can.
        """
        ...

    async def close(self) -> None:
        """Stop every torrent within five seconds."""
        ...
