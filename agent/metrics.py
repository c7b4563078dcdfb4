"""What operators watch of one agent, in Prometheus' words (https://prometheus.io/docs/practices/naming/). One registry
per process, made by the composition root.

Invariant: the number of series is bounded, whatever runs here: labels are words of ours, and instances by id, no more
than `agent.samples.MOST_INSTANCES` of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from agent.journal import Disk
from agent.samples import HostCounters, Sample
from common.clock import Clock

_PREFIX = "longshore_agent_"
# An fsync on flash takes a millisecond, on a busy spinning disk a second; beyond that something is wrong.
_WRITE_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
# Starting takes less than a second, a fetch hours.
_STEP_BUCKETS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)

ByLabel: TypeAlias = "Mapping[str, float]"


class Metrics:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.registry = CollectorRegistry()
        self.steps = Counter(
            f"{_PREFIX}steps",
            "Steps of the reconciler, by kind and outcome",
            ["step", "outcome"],
            registry=self.registry,
        )
        self.step_seconds = Histogram(
            f"{_PREFIX}step_seconds",
            "How long the steps took that succeeded",
            ["step"],
            buckets=_STEP_BUCKETS,
            registry=self.registry,
        )
        self.journal_seconds = Histogram(
            f"{_PREFIX}journal_write_seconds",
            "How long durable writes of the journal took, by record",
            ["record"],
            buckets=_WRITE_BUCKETS,
            registry=self.registry,
        )

    @contextlib.contextmanager
    def step(self, kind: str) -> Iterator[None]:
        """Around one step: it succeeded, failed, or was cancelled for something newer."""
        began = self._clock.monotonic()
        try:
            yield
        except Exception:
            self.steps.labels(kind, "failed").inc()
            raise
        except BaseException:
            self.steps.labels(kind, "cancelled").inc()
            raise
        self.steps.labels(kind, "succeeded").inc()
        self.step_seconds.labels(kind).observe(self._clock.monotonic() - began)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """`read` is called at every scrape; it must not block."""
        Gauge(f"{_PREFIX}{name}", text, registry=self.registry).set_function(read)

    def counter(self, name: str, text: str, read: Callable[[], float]) -> None:
        """`read` never goes back while the process lives."""
        self.registry.register(_Read(lambda: [CounterMetricFamily(f"{_PREFIX}{name}", text, value=read())]))

    def counter_by(self, name: str, text: str, label: str, read: Callable[[], ByLabel]) -> None:
        def collect() -> Iterable[Metric]:
            yield _family(CounterMetricFamily(f"{_PREFIX}{name}", text, labels=[label]), read())

        self.registry.register(_Read(collect))

    def host(self, read: Callable[[], HostCounters]) -> None:
        """`read` looks at the machine, at every scrape."""
        self.registry.register(_Read(lambda: _host(read())))

    def instances(self, latest: Callable[[], Sample | None]) -> None:
        self.registry.register(_Read(lambda: _instances(latest())))

    def exposition(self) -> bytes:
        """Blocking, some milliseconds: it asks the kernel."""
        return generate_latest(self.registry)


class MeteredDisk:
    """A journal's disk whose writes are timed; the record is the file's name."""

    def __init__(self, disk: Disk, metrics: Metrics, clock: Clock) -> None:
        self._disk = disk
        self._metrics = metrics
        self._clock = clock

    def read(self, path: Path) -> bytes:
        return self._disk.read(path)

    def write(self, path: Path, data: bytes) -> None:
        began = self._clock.monotonic()
        self._disk.write(path, data)
        self._metrics.journal_seconds.labels(path.stem).observe(self._clock.monotonic() - began)

    def move(self, path: Path, to: Path) -> None:
        self._disk.move(path, to)


class _Read(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()

    def describe(self) -> Iterable[Metric]:
        return ()  # so that registering asks nobody


def _family(
    family: CounterMetricFamily | GaugeMetricFamily, values: ByLabel
) -> CounterMetricFamily | GaugeMetricFamily:
    for label, value in values.items():
        family.add_metric([label], value)
    return family


def _host(look: HostCounters) -> Iterable[Metric]:
    name = f"{_PREFIX}host_"
    yield _family(
        CounterMetricFamily(f"{name}cpu_seconds", "Time of processors, by mode", labels=["mode"]), look.cpu_seconds
    )
    yield GaugeMetricFamily(f"{name}load1", "Load average of a minute", value=look.load_1m)
    yield GaugeMetricFamily(f"{name}memory_used_bytes", "Memory that is not available", value=look.memory_used_bytes)
    yield GaugeMetricFamily(f"{name}memory_total_bytes", "Memory", value=look.memory_total_bytes)
    yield GaugeMetricFamily(f"{name}disk_free_bytes", "Free where contents are kept", value=look.disk_free_bytes)
    yield GaugeMetricFamily(f"{name}disk_total_bytes", "Room where contents are kept", value=look.disk_total_bytes)
    yield CounterMetricFamily(f"{name}disk_read_bytes", "Read from all disks", value=look.disk_read_bytes)
    yield CounterMetricFamily(f"{name}disk_written_bytes", "Written to all disks", value=look.disk_written_bytes)
    yield CounterMetricFamily(f"{name}received_bytes", "Received over the host's own cards", value=look.received_bytes)
    yield CounterMetricFamily(f"{name}sent_bytes", "Sent over the host's own cards", value=look.sent_bytes)


def _instances(sample: Sample | None) -> Iterable[Metric]:
    name, found = f"{_PREFIX}instance_", () if sample is None else sample.instances

    def by_id(values: Iterable[float]) -> ByLabel:
        return dict(zip((one.instance_id for one in found), values, strict=True))

    counters: tuple[tuple[str, str, Iterable[float]], ...] = (
        ("cpu_seconds", "Time of processors that instances used", (one.cpu_seconds for one in found)),
        ("received_bytes", "What instances received", (one.received_bytes for one in found)),
        ("sent_bytes", "What instances sent", (one.sent_bytes for one in found)),
    )
    gauges: tuple[tuple[str, str, Iterable[float]], ...] = (
        ("memory_bytes", "Memory of instances", (one.memory_bytes for one in found)),
        ("memory_limit_bytes", "Most memory that instances may use; 0: all", (one.memory_limit_bytes for one in found)),
        ("processes", "Processes of instances", (one.processes for one in found)),
    )
    for what, text, values in counters:
        yield _family(CounterMetricFamily(f"{name}{what}", text, labels=["instance"]), by_id(values))
    for what, text, values in gauges:
        yield _family(GaugeMetricFamily(f"{name}{what}", text, labels=["instance"]), by_id(values))
