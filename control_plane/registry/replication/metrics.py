"""What an operator watches of replication. Figures by rule are the API's: a label a rule would grow without bound."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from control_plane.registry.replication.model import Direction, State


class ReplicationMetrics:
    """One per process, in the registry that /metrics shows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tasks = Counter(
            "registry_replication_tasks", "Images done with.", ("direction", "outcome"), registry=registry
        )
        self._retries = Counter(
            "registry_replication_retries", "Attempts that failed and are repeated.", ("direction",), registry=registry
        )
        self._bytes = Counter(
            "registry_replication_bytes", "Bytes of blobs sent or fetched.", ("direction",), registry=registry
        )

    def ended(self, direction: Direction, state: State) -> None:
        self._tasks.labels(direction.value, state.value).inc()

    def put_off(self, direction: Direction) -> None:
        self._retries.labels(direction.value).inc()

    def moved(self, direction: Direction, count: int) -> None:
        self._bytes.labels(direction.value).inc(count)
