"""What Prometheus is shown of the swarm: bytes by data centre and source, and offences. Figures by content and host are
the API's: a label for each would grow without bound.

Invariant: a byte that a host reported is counted once, by the replica that wrote it down; what a content had before it
was known here counts with its first report. Over all replicas the sums of a data centre are those of its hosts.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from control_plane.swarm.model import HostContent, OffenceKind

_SOURCES = ("centre", "regional", "peers", "reused")


class SwarmMetrics:
    """One per process, in the registry that /metrics shows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._received = Counter(
            "swarm_received_bytes",
            "Payload bytes that hosts received, by data centre and source (reused: copied from what they held).",
            ("idc", "source"),
            registry=registry,
        )
        self._offences = Counter(
            "swarm_offences", "Reports that somebody sent what nobody may send.", ("idc", "kind"), registry=registry
        )
        self._passed_over = Counter(
            "swarm_offences_passed_over", "Reports beyond what one host may say in a day.", ("idc",), registry=registry
        )

    def received(self, idc: str, before: HostContent | None, after: HostContent) -> None:
        for source, was, now in zip(_SOURCES, _counts(before), _counts(after), strict=True):
            if now > was:
                self._received.labels(idc, source).inc(now - was)

    def offended(self, idc: str, kind: OffenceKind) -> None:
        self._offences.labels(idc, kind.value).inc()

    def passed_over(self, idc: str, count: int) -> None:
        self._passed_over.labels(idc).inc(count)


def _counts(content: HostContent | None) -> tuple[int, int, int, int]:
    if content is None:
        return 0, 0, 0, 0
    return content.from_centre_bytes, content.from_regional_bytes, content.from_peers_bytes, content.reused_bytes
