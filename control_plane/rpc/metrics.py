"""What Prometheus is shown of the gRPC listeners: who was refused and why, and what nobody here understood.

A handshake that fails is gRPC's own business: its reason stands in its line on standard error, and here it is a
handshake that no call follows.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class RpcMetrics:
    """One per process, in the registry that /metrics shows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter("control_plane_rpc_calls", "Calls and streams begun.", ("method",), registry=registry)
        self._failures = Counter(
            "control_plane_rpc_failures",
            "Calls and streams that ended with a failure, by its code.",
            ("method", "code"),
            registry=registry,
        )
        self._handshakes = Counter(
            "control_plane_rpc_handshakes",
            "TLS handshakes begun; those without a certificate of ours are refused before any call.",
            ("listener",),
            registry=registry,
        )
        self._not_understood = Counter(
            "control_plane_fleet_not_understood",
            "Messages of hosts and regionals in words of a newer version.",
            ("kind",),
            registry=registry,
        )

    def called(self, method: str) -> None:
        self._calls.labels(method).inc()

    def failed(self, method: str, code: str) -> None:
        self._failures.labels(method, code).inc()

    def handshake(self, listener: str) -> None:
        """Called in gRPC's threads."""
        self._handshakes.labels(listener).inc()

    def not_understood(self, kind: str) -> None:
        self._not_understood.labels(kind).inc()


def unseen() -> RpcMetrics:
    """For whoever shows nothing."""
    return RpcMetrics(CollectorRegistry())
