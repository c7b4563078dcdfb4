"""What operators watch of one agent, in Prometheus' words (https://prometheus.io/docs/practices/naming/). One registry
per process, made by the composition root.

Invariant: the number of series is bounded, whatever runs here: labels are words of ours, and instances by id, no more
than `agent.samples.MOST_INSTANCES` of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from agent.journal import Disk
from agent.samples import Sample
from common.clock import Clock
from common.host_counters import HostCounters
from common.host_metrics import ByLabel, Reading, family_of, host_metrics

_PREFIX = "longshore_agent_"
# An fsync on flash takes a millisecond, on a busy spinning disk a second; beyond that something is wrong.
_WRITE_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
# Starting takes less than a second, a fetch hours.
_STEP_BUCKETS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)


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
        self.registry.register(Reading(lambda: [CounterMetricFamily(f"{_PREFIX}{name}", text, value=read())]))

    def counter_by(self, name: str, text: str, label: str, read: Callable[[], ByLabel]) -> None:
        def collect() -> Iterable[Metric]:
            yield family_of(CounterMetricFamily(f"{_PREFIX}{name}", text, labels=[label]), read())

        self.registry.register(Reading(collect))

    def host(self, read: Callable[[], HostCounters]) -> None:
        """`read` looks at the machine, at every scrape."""
        self.registry.register(Reading(lambda: host_metrics(f"{_PREFIX}host_", read())))

    def instances(self, latest: Callable[[], Sample | None]) -> None:
        self.registry.register(Reading(lambda: _instances(latest())))

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
        yield family_of(CounterMetricFamily(f"{name}{what}", text, labels=["instance"]), by_id(values))
    for what, text, values in gauges:
        yield family_of(GaugeMetricFamily(f"{name}{what}", text, labels=["instance"]), by_id(values))
