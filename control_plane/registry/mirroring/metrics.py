"""What mirrors fetch, in /metrics. What is here already is an ordinary pull and counted as one."""

from __future__ import annotations

from typing import Literal

from prometheus_client import CollectorRegistry, Counter

Kind = Literal["blob", "manifest", "tag", "tags", "referrers"]
Outcome = Literal["fetched", "unchanged", "absent", "stale", "failed"]


class MirrorMetrics:
    """Of this process. `stale`: upstream failed, and what is here was served."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._asked = Counter(
            "longshore_mirror_requests",
            "What upstreams were asked for, and what came of it.",
            ("kind", "outcome"),
            registry=registry,
        )
        self._bytes = Counter(
            "longshore_mirror_fetched_bytes", "Bytes of blobs that were fetched and kept.", registry=registry
        )

    def count(self, kind: Kind, outcome: Outcome) -> None:
        self._asked.labels(kind, outcome).inc()

    def fetched(self, size: int) -> None:
        self._bytes.inc(size)
