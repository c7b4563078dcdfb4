"""What operators watch of TFTP, in Prometheus' words."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge


class TftpMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.transfers = Counter(
            "longshore_regional_tftp_transfers",
            "Transfers that ended: completed, probed (the client wanted the size), aborted (by the client), timed_out, "
            "replaced (by a new request), failed, stopped",
            ["outcome"],
            registry=registry,
        )
        self.errors = Counter(
            "longshore_regional_tftp_errors",
            "What was not served: missing, denied, malformed, write, mode, foreign (another's transfer), crowded "
            "(over a limit), broken",
            ["reason"],
            registry=registry,
        )
        self.sent = Counter(
            "longshore_regional_tftp_sent_bytes", "Bytes of files that clients acknowledged", registry=registry
        )
        self.resent = Counter("longshore_regional_tftp_resent_blocks", "Blocks sent again", registry=registry)
        self._active = Gauge("longshore_regional_tftp_active", "Transfers now", registry=registry)

    def watch(self, active: Callable[[], float]) -> None:
        self._active.set_function(active)
