from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.samples import MOST_INSTANCES, InstanceCounters, host_sample, instance_samples
from common.host_counters import HostCounters


def test_rates_are_means_between_two_looks() -> None:
    before = HostCounters(10.0, {"user": 5.0, "system": 1.0, "idle": 100.0, "iowait": 3.0}, received_bytes=1000)
    after = HostCounters(20.0, {"user": 12.0, "system": 4.0, "idle": 110.0, "iowait": 9.0}, received_bytes=6000)
    sample = host_sample(before, after)
    assert sample.busy_cpus == 1.0
    assert sample.received_bytes_per_second == 500.0
    assert sample.sent_bytes_per_second == 0.0


def test_counters_that_went_back_make_no_rate() -> None:
    before = HostCounters(10.0, {"user": 50.0}, disk_read_bytes=1 << 40)
    after = HostCounters(20.0, {"user": 1.0}, disk_read_bytes=5)
    sample = host_sample(before, after)
    assert (sample.busy_cpus, sample.disk_read_bytes_per_second) == (0.0, 0.0)
    assert host_sample(after, after).busy_cpus == 0.0


def test_an_instance_has_a_rate_from_its_second_look_on() -> None:
    first = instance_samples({}, [InstanceCounters("i", 7.0, 100)], 10.0)
    assert (first[0].busy_cpus, first[0].cpu_seconds) == (0.0, 7.0)
    second = instance_samples({"i": InstanceCounters("i", 7.0, 100)}, [InstanceCounters("i", 12.0, 100)], 10.0)
    assert second[0].busy_cpus == 0.5


@given(st.lists(st.integers(0, 2000), unique=True, max_size=700))
def test_no_more_instances_are_shown_than_bounded_and_always_the_same(numbers: list[int]) -> None:
    counters = [InstanceCounters(f"{number:04}", 0.0, 0) for number in numbers]
    shown = [one.instance_id for one in instance_samples({}, counters, 1.0)]
    assert shown == sorted(one.instance_id for one in counters)[:MOST_INSTANCES]
