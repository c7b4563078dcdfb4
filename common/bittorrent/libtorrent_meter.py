"""A torrent's counters: libtorrent's totals, the connections behind them, and what an earlier life of it had counted.

Invariant: totals never shrink, though libtorrent's begin at zero each time the torrent is added. The binding of 2.1.1
cannot convert the alert that carries a torrent's peers, so a thread asks for them: when bytes arrived, at most once for
each status update (0.5 s), and once more when the torrent is finished. That thread waits for libtorrent's own, which
ends with the session: so nobody may close a session before `idle`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from common.bittorrent import TorrentStatus
from common.bittorrent import libtorrent_parameters as translate
from common.bittorrent.provenance import Kind, Provenance

# A read takes under a millisecond, or as long as libtorrent's thread is busy hashing.
_IDLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Counts:
    """Since the torrent was last added."""

    received: int = 0
    sent: int = 0
    failed: int = 0
    download_rate: int = 0
    upload_rate: int = 0
    peers: int = 0

    @classmethod
    def of(cls, status: Any) -> _Counts:
        return cls(
            received=status.total_payload_download,
            sent=status.total_payload_upload,
            failed=status.total_failed_bytes,
            download_rate=status.download_payload_rate,
            upload_rate=status.upload_payload_rate,
            peers=status.num_peers,
        )


class Meter:
    """`on_sampled` is called after each sample that no newer request for one follows."""

    def __init__(self, on_sampled: Callable[[], None]) -> None:
        self._on_sampled = on_sampled
        self._counts = _Counts()
        self._earlier = _Counts()
        self._provenance = Provenance()
        self._life = 0
        self._sampling = False
        self._reading: asyncio.Future[tuple[Any, Sequence[Any]] | None] | None = None
        self._next: Any = None

    def update(self, status: Any) -> bool:
        """Whether bytes have arrived since the last time."""
        before, self._counts = self._counts, _Counts.of(status)
        return before.received != self._counts.received

    def departed(self, kind: Kind | None) -> None:
        if kind is not None:
            self._provenance.departed(kind)

    def sample(self, handle: Any) -> None:
        if self._sampling:
            self._next = handle
            return
        self._sampling, life = True, self._life
        future = asyncio.get_running_loop().run_in_executor(None, _read, handle)
        self._reading = future
        future.add_done_callback(lambda done: self._take(done, life))

    async def idle(self) -> None:
        """Wait, for a bounded time, until no thread asks libtorrent about this torrent. Call `end` before."""
        if self._reading is not None:
            await asyncio.wait([self._reading], timeout=_IDLE_SECONDS)

    def end(self) -> None:
        """The torrent left libtorrent; what is under way counts no more."""
        self._life += 1
        self._next = None
        self._provenance.end()
        counts, self._counts = self._counts, _Counts()
        self._earlier = _Counts(
            received=self._earlier.received + counts.received,
            sent=self._earlier.sent + counts.sent,
            failed=self._earlier.failed + counts.failed,
        )

    def status(self, held_bytes: int, *, complete: bool) -> TorrentStatus:
        totals = self._provenance.totals()
        return TorrentStatus(
            held_bytes=held_bytes,
            from_agents_bytes=totals[Kind.AGENT],
            from_regionals_bytes=totals[Kind.REGIONAL],
            sent_bytes=self._earlier.sent + self._counts.sent,
            failed_bytes=self._earlier.failed + self._counts.failed,
            download_rate=0 if complete else self._counts.download_rate,
            upload_rate=self._counts.upload_rate,
            peers=self._counts.peers,
            complete=complete,
        )

    def _take(self, future: asyncio.Future[tuple[Any, Sequence[Any]] | None], life: int) -> None:
        self._sampling = False
        if future.cancelled():
            return
        sample = future.result()
        if sample is not None and life == self._life:
            self._counts = _Counts.of(sample[0])
            total = self._earlier.received + self._counts.received
            self._provenance.observe(translate.connections(sample[1]), total)
        following, self._next = self._next, None
        if following is not None:
            self.sample(following)
        elif life == self._life:
            self._on_sampled()


def _read(handle: Any) -> tuple[Any, Sequence[Any]] | None:
    try:
        return handle.status(0), handle.get_peer_info()
    except RuntimeError:  # the torrent has gone
        return None
