"""How busy the host and its instances are: two looks at counters become rates; pure.

Invariant: a counter that went back (an engine restarted, a card was pulled) makes its rate zero for that once, never
negative and never huge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from common.host_counters import HostCounters

# A host that runs more shows the first ones by id: what goes up must stay a small message.
MOST_INSTANCES = 500


@dataclass(frozen=True, slots=True)
class InstanceCounters:
    """`memory_limit_bytes` 0: none."""

    instance_id: str
    cpu_seconds: float
    memory_bytes: int
    memory_limit_bytes: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    processes: int = 0


@dataclass(frozen=True, slots=True)
class HostSample:
    """`busy_cpus`: mean since the look before, in processors."""

    busy_cpus: float = 0.0
    load_1m: float = 0.0
    memory_used_bytes: int = 0
    memory_total_bytes: int = 0
    disk_free_bytes: int = 0
    disk_total_bytes: int = 0
    disk_read_bytes_per_second: float = 0.0
    disk_written_bytes_per_second: float = 0.0
    received_bytes_per_second: float = 0.0
    sent_bytes_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class InstanceSample:
    instance_id: str
    cpu_seconds: float
    busy_cpus: float
    memory_bytes: int
    memory_limit_bytes: int
    received_bytes: int
    sent_bytes: int
    processes: int


@dataclass(frozen=True, slots=True)
class Sample:
    """`taken_at_ms` since 1970, by the host's clock."""

    taken_at_ms: int
    host: HostSample
    cache_bytes: int = 0
    instances: tuple[InstanceSample, ...] = ()


# Time that nobody used: of these modes, and of guests, which user time has already.
_NOT_BUSY = frozenset({"idle", "iowait", "steal", "guest", "guest_nice"})


def host_sample(before: HostCounters, after: HostCounters) -> HostSample:
    seconds = after.at_seconds - before.at_seconds

    def rate(earlier: float, later: float) -> float:
        return (later - earlier) / seconds if seconds > 0 and later > earlier else 0.0

    return HostSample(
        busy_cpus=rate(_busy(before), _busy(after)),
        load_1m=after.load_1m,
        memory_used_bytes=after.memory_used_bytes,
        memory_total_bytes=after.memory_total_bytes,
        disk_free_bytes=after.disk_free_bytes,
        disk_total_bytes=after.disk_total_bytes,
        disk_read_bytes_per_second=rate(before.disk_read_bytes, after.disk_read_bytes),
        disk_written_bytes_per_second=rate(before.disk_written_bytes, after.disk_written_bytes),
        received_bytes_per_second=rate(before.received_bytes, after.received_bytes),
        sent_bytes_per_second=rate(before.sent_bytes, after.sent_bytes),
    )


def instance_samples(
    before: Mapping[str, InstanceCounters], after: Iterable[InstanceCounters], seconds: float
) -> tuple[InstanceSample, ...]:
    """By id, `MOST_INSTANCES` at most; one that was not there before has no rate yet."""
    found = []
    for one in sorted(after, key=lambda one: one.instance_id)[:MOST_INSTANCES]:
        earlier = before.get(one.instance_id)
        spent = one.cpu_seconds - earlier.cpu_seconds if earlier is not None else 0.0
        found.append(
            InstanceSample(
                instance_id=one.instance_id,
                cpu_seconds=one.cpu_seconds,
                busy_cpus=spent / seconds if spent > 0 and seconds > 0 else 0.0,
                memory_bytes=one.memory_bytes,
                memory_limit_bytes=one.memory_limit_bytes,
                received_bytes=one.received_bytes,
                sent_bytes=one.sent_bytes,
                processes=one.processes,
            )
        )
    return tuple(found)


def _busy(counters: HostCounters) -> float:
    return sum(seconds for mode, seconds in counters.cpu_seconds.items() if mode not in _NOT_BUSY)
