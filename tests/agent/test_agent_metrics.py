"""What Prometheus sees of an agent, and the samples that go up."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.inventory_wire import sample_message
from agent.journal import Journal, LocalDisk
from agent.metrics import MeteredDisk, Metrics
from agent.metrics_server import serving
from agent.model import Assignment, DesiredState
from agent.runtimes import ContainerOrder
from agent.runtimes.memory import MemoryEngine, MemoryRuntimeDriver
from agent.samples import HostSample, InstanceSample, Sample
from agent.sampling import Sampler
from common.clock import ManualClock
from common.host_counters import look
from tests.agent.samples import assignment, sample


def values(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for one in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return values(metrics)[f"longshore_agent_{name}", frozenset(labels.items())]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(ManualClock())


async def test_steps_are_counted_by_what_came_of_them(metrics: Metrics) -> None:
    with metrics.step("PullImage"):
        pass
    with pytest.raises(OSError, match="away"), metrics.step("PullImage"):
        raise OSError("away")
    with pytest.raises(asyncio.CancelledError), metrics.step("FetchContents"):
        raise asyncio.CancelledError
    assert value(metrics, "steps_total", step="PullImage", outcome="succeeded") == 1
    assert value(metrics, "steps_total", step="PullImage", outcome="failed") == 1
    assert value(metrics, "steps_total", step="FetchContents", outcome="cancelled") == 1
    assert value(metrics, "step_seconds_count", step="PullImage") == 1


async def test_durable_writes_are_timed(metrics: Metrics, tmp_path: Path) -> None:
    journal = Journal(tmp_path, MeteredDisk(LocalDisk(), metrics, ManualClock()))
    await journal.save("ledger", lambda: b"1")
    assert await journal.load("ledger") == b"1"
    assert value(metrics, "journal_write_seconds_count", record="ledger") == 1


async def test_the_host_is_looked_at_when_it_is_asked_for(metrics: Metrics, tmp_path: Path) -> None:
    metrics.host(lambda: look(tmp_path, 0.0))
    assert value(metrics, "host_memory_total_bytes") > value(metrics, "host_memory_used_bytes") > 0
    assert value(metrics, "host_cpu_seconds_total", mode="user") > 0
    assert value(metrics, "host_disk_total_bytes") >= value(metrics, "host_disk_free_bytes") > 0


async def test_instances_are_sampled_by_id(metrics: Metrics, tmp_path: Path) -> None:
    clock, engine = ManualClock(), MemoryEngine()
    driver = MemoryRuntimeDriver(engine, "host-1")
    made = assignment(sample(b"layer").image, DesiredState.RUNNING)
    await run_one(driver, made)
    sampler = Sampler(tmp_path, lambda: driver, lambda: 42, clock, lambda: 0.5)
    told: list[Sample] = []
    sampler.tell = told.append
    metrics.instances(lambda: sampler.latest)
    assert "longshore_agent_instance_memory_bytes{" not in metrics.exposition().decode()
    running = asyncio.ensure_future(sampler.run())
    for _ in range(50):
        await asyncio.sleep(0.01)
        if sampler.latest is not None:
            break
    for _ in range(50):
        await clock.advance(1.0)
        await asyncio.sleep(0.01)
        if told:
            break
    running.cancel()
    (first, *_) = told
    assert [one.instance_id for one in first.instances] == [made.instance_id]
    assert first.cache_bytes == 42
    assert ("longshore_agent_instance_memory_bytes", frozenset({("instance", made.instance_id)})) in values(metrics)


async def test_an_engine_that_is_away_leaves_the_host_in_the_sample(tmp_path: Path) -> None:
    driver = MemoryRuntimeDriver(MemoryEngine(away=True), "host-1")
    found = await Sampler(tmp_path, lambda: driver, lambda: 0, ManualClock(), lambda: 0.5).take()
    assert found.instances == ()
    assert found.host.memory_total_bytes > 0


async def run_one(driver: MemoryRuntimeDriver, made: Assignment) -> None:
    manifest = made.image.manifest.digest
    await driver.pull("acme/web", manifest)
    order = ContainerOrder(made.container_name, made.instance_id, 1, made.spec_hash, manifest, made.container)
    await driver.start(await driver.create(order))


async def test_the_server_gives_numbers_and_health(metrics: Metrics) -> None:
    metrics.gauge("attached", "1 while attached", lambda: 1.0)
    async with serving(metrics, lambda: False, "127.0.0.1", 0) as port, aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{port}/metrics") as answer:
            assert answer.content_type == "text/plain"
            assert "longshore_agent_attached 1.0" in await answer.text()
        async with http.get(f"http://127.0.0.1:{port}/healthz") as answer:
            assert await answer.json() == {"status": "ok", "attached": False}
        async with http.post(f"http://127.0.0.1:{port}/metrics") as answer:
            assert answer.status == 405
        async with serving(metrics, lambda: True, "127.0.0.1", 0, last_port=port) as other:
            assert other != port
    async with serving(metrics, lambda: True, "127.0.0.1", 0, last_port=port) as again:
        assert again == port
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        async with serving(metrics, lambda: True, "127.0.0.1", taken.getsockname()[1]):
            pass


def test_a_sample_fits_its_message() -> None:
    use = InstanceSample("i", 1.0, 0.5, 2, 3, 4, 5, 6)
    host = HostSample(0.5, 1.0, 2, 3, 4, 5, 6.0, 7.0, 8.0, 9.0)
    message = sample_message(Sample(7, host, 8, (use,)))
    assert (message.taken_at_ms, message.cache_bytes, message.sent_bytes_per_second) == (7, 8, 9.0)
    assert (message.instances[0].busy_cpus, message.instances[0].processes) == (0.5, 6)
