"""A machine's counters in Prometheus' words (https://prometheus.io/docs/practices/naming/), read at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from common.host_counters import HostCounters

ByLabel: TypeAlias = "Mapping[str, float]"
Family = TypeVar("Family", CounterMetricFamily, GaugeMetricFamily)


class Reading(Collector):
    """`read` is called at every scrape, in the thread that makes the page; it must be quick."""

    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        return self._read()

    def describe(self) -> Iterable[Metric]:
        return ()  # so that registering asks nobody


def family_of(family: Family, values: ByLabel) -> Family:
    """`family`, which has one label, with these values."""
    for label, value in values.items():
        family.add_metric([label], value)
    return family


def host_metrics(prefix: str, seen: HostCounters) -> Iterable[Metric]:
    """`prefix` of every name, as `longshore_agent_host_`."""
    yield family_of(
        CounterMetricFamily(f"{prefix}cpu_seconds", "Time of processors, by mode", labels=["mode"]), seen.cpu_seconds
    )
    gauges = (
        ("load1", "Load average of a minute", seen.load_1m),
        ("memory_used_bytes", "Memory that is not available", seen.memory_used_bytes),
        ("memory_total_bytes", "Memory", seen.memory_total_bytes),
        ("disk_free_bytes", "Free where contents are kept", seen.disk_free_bytes),
        ("disk_total_bytes", "Room where contents are kept", seen.disk_total_bytes),
    )
    counters = (
        ("disk_read_bytes", "Read from all disks", seen.disk_read_bytes),
        ("disk_written_bytes", "Written to all disks", seen.disk_written_bytes),
        ("received_bytes", "Received over the machine's own cards", seen.received_bytes),
        ("sent_bytes", "Sent over the machine's own cards", seen.sent_bytes),
    )
    for name, text, value in gauges:
        yield GaugeMetricFamily(f"{prefix}{name}", text, value=value)
    for name, text, value in counters:
        yield CounterMetricFamily(f"{prefix}{name}", text, value=value)
