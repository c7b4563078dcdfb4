"""What operators watch of one regional, in Prometheus' words. One registry per process, made by the daemon."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily

from common.host_counters import HostCounters
from common.host_metrics import Reading, host_metrics


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "longshore_regional_http_requests",
            "HTTP requests, by route and status",
            ["route", "status"],
            registry=self.registry,
        )
        self.sent = Counter(
            "longshore_regional_http_sent_bytes",
            "Payload bytes sent over HTTP, by route",
            ["route"],
            registry=self.registry,
        )
        self.announces = Counter(
            "longshore_regional_announces", "Announces, by outcome", ["outcome"], registry=self.registry
        )

        self.pulls = Counter(
            "longshore_regional_registry_answers",
            "Answers of /v2: held, fetched, known (a manifest), stale, passed (to the centre), refused",
            ["outcome"],
            registry=self.registry,
        )

        self.offences = Counter(
            "longshore_regional_offences",
            "Peers accused of false bytes: named, shunned (named by two hosts), unknown",
            ["outcome"],
            registry=self.registry,
        )

        self.mirrors = Counter(
            "longshore_regional_mirror_answers",
            "Files of mirrors: held, fetched, stale (upstream is away), missing",
            ["outcome"],
            registry=self.registry,
        )

        self.dhcp = Counter(
            "longshore_regional_dhcp_requests",
            "DHCP requests, by what came of them",
            ["verdict"],
            registry=self.registry,
        )

    def counter(self, name: str, text: str, read: Callable[[], float]) -> None:
        """`read` is called at every scrape and never goes back while the process lives."""
        self.registry.register(Reading(lambda: [CounterMetricFamily(f"longshore_regional_{name}", text, value=read())]))

    def host(self, read: Callable[[], HostCounters]) -> None:
        """`read` looks at the machine, at every scrape."""
        self.registry.register(Reading(lambda: host_metrics("longshore_regional_host_", read())))

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """`read` is called at every scrape; it must not block."""
        Gauge(f"longshore_regional_{name}", text, registry=self.registry).set_function(read)

    def exposition(self) -> bytes:
        return generate_latest(self.registry)
