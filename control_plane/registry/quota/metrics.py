"""What an operator watches of quota. Figures by tenant are the API's: a label a tenant would grow without bound."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from common.errors import QuotaExceeded


class QuotaMetrics:
    """One per process, in the registry that /metrics shows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._refusals = Counter(
            "registry_quota_refusals",
            "Changes refused, by the limit in the way.",
            ("quota", "subject"),
            registry=registry,
        )
        self._warnings = Counter(
            "registry_quota_warnings",
            "Accounts that reached a share of their storage.",
            ("percent",),
            registry=registry,
        )
        self._drift = Counter(
            "registry_quota_drift_bytes", "Bytes by which accounts were found to be wrong.", registry=registry
        )
        self._swept = Counter(
            "registry_quota_swept_reservations", "Reservations of uploads that had vanished.", registry=registry
        )

    def refused(self, refusal: QuotaExceeded) -> None:
        self._refusals.labels(str(refusal.facts.get("quota")), str(refusal.facts.get("subject"))).inc()

    def warned(self, percent: int) -> None:
        self._warnings.labels(str(percent)).inc()

    def drifted(self, size: int) -> None:
        self._drift.inc(size)

    def swept(self, count: int) -> None:
        self._swept.inc(count)
