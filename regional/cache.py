"""The parts of the content cache, wired to each other; the daemon gives what comes from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from common.bittorrent import PeerSession
from common.clock import Clock
from common.content_statement import StatementVerifier
from common.water_marks import WaterMarks
from regional.centre import Centre
from regional.credentials import Credentials
from regional.directory import ContentDirectory
from regional.edge import Edge
from regional.metainfos import Metainfos
from regional.metrics import Metrics
from regional.pieces import Spawn
from regional.seeding import Seeding
from regional.shelf import NO_LIMIT, Shelf


@dataclass(frozen=True, slots=True)
class Cache:
    """Call `edge.start()` once before use."""

    directory: ContentDirectory
    shelf: Shelf
    centre: Centre
    metainfos: Metainfos
    seeding: Seeding
    edge: Edge
    credentials: Credentials

    def show(self, metrics: Metrics) -> None:
        shelf, edge, seeding = self.shelf, self.edge, self.seeding
        metrics.gauge("cache_bytes", "Bytes held and reserved", lambda: shelf.used_bytes)
        metrics.gauge("cache_contents", "Contents held", lambda: len(shelf.held()))
        metrics.gauge("cache_limit_bytes", "Most bytes to hold; 0: no limit", lambda: shelf.marks.limit_bytes)
        metrics.gauge("cache_pinned_bytes", "Bytes of ordered contents", lambda: shelf.pinned_bytes)
        metrics.gauge("cache_evictions", "Contents evicted since the start", lambda: shelf.evictions)
        metrics.gauge("cache_evicted_bytes", "Bytes of those", lambda: shelf.evicted_bytes)
        metrics.gauge("cache_hits", "Reads of contents that were held, since the start", lambda: shelf.hits)
        metrics.gauge("cache_misses", "Reads of contents that had to be fetched first", lambda: shelf.misses)
        metrics.gauge(
            "centre_bytes", "Payload bytes from the centre since the start", lambda: edge.crossings.process_total
        )
        metrics.gauge(
            "reused_bytes",
            "Bytes of contents copied from others held here, since the start",
            lambda: edge.reuse.reused_bytes,
        )
        metrics.gauge(
            "metainfos_refused",
            "Metainfos from the centre whose statement was not valid, since the start",
            lambda: self.metainfos.refused,
        )
        metrics.gauge("torrents", "Swarms in which a content is offered", lambda: len(seeding.statuses()))
        metrics.gauge(
            "peers_sent_bytes",
            "Payload bytes sent to peers by the torrents there are now",
            lambda: sum(status.sent_bytes for status in seeding.statuses()),
        )


def build_cache(
    directory: ContentDirectory,
    http: aiohttp.ClientSession,
    centre_url: str,
    peers: PeerSession,
    clock: Clock,
    random: Callable[[], float],
    spawn: Spawn,
    statements: StatementVerifier,
    *,
    identity_dir: Path,
    marks: WaterMarks = NO_LIMIT,
) -> Cache:
    """`http` must not decompress: bytes are counted and verified as they are. `identity_dir`: what certificates for
    swarms are asked for with.
    """
    shelf = Shelf(directory, clock, marks)
    centre = Centre(http, centre_url, clock)
    metainfos = Metainfos(directory, centre, clock, random, statements)
    credentials = Credentials(directory.root.parent / "credentials", identity_dir, centre, clock, random)
    seeding = Seeding(peers, directory, credentials)
    edge = Edge(directory, shelf, centre, metainfos, seeding, clock, random, spawn)
    return Cache(directory, shelf, centre, metainfos, seeding, edge, credentials)
