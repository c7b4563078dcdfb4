"""How busy this host is, looked at now and then: for the metrics, and light enough to send to the control plane.

Invariant: a look lasts no longer than its deadline, asks an engine a few questions at a time, and fails for no
container's sake: one that cannot be asked is not in the sample.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from agent.model import LIVE_STATES, Container
from agent.runtimes import RuntimeDriver
from agent.samples import (
    MOST_INSTANCES,
    InstanceCounters,
    Sample,
    host_sample,
    instance_samples,
)
from common.backoff import jittered
from common.clock import Clock
from common.errors import Failure
from common.host_counters import HostCounters, look

log = structlog.get_logger()

SAMPLE_SECONDS = 60.0
_LOOK_SECONDS = 20.0
_AT_ONCE = 4


class Sampler:
    """`driver` gives None while this host runs nothing. `tell` is given each sample."""

    def __init__(
        self,
        data: Path,
        driver: Callable[[], RuntimeDriver | None],
        cache_bytes: Callable[[], int],
        clock: Clock,
        random: Callable[[], float],
        seconds: float = SAMPLE_SECONDS,
    ) -> None:
        self._data = data
        self._driver = driver
        self._cache_bytes = cache_bytes
        self._clock = clock
        self._random = random
        self._seconds = seconds
        self._host: HostCounters | None = None
        self._instances: dict[str, InstanceCounters] = {}
        self.latest: Sample | None = None
        self.tell: Callable[[Sample], object] = lambda _: None

    def counters(self) -> HostCounters:
        """Of the host, now. Blocking, two milliseconds."""
        return look(self._data, self._clock.monotonic())

    async def run(self) -> None:
        """Until cancelled. The first look only begins the counting; the second, soon after, is told."""
        await self.take()
        seconds = min(self._seconds, 5.0)
        while True:
            await self._clock.sleep(jittered(seconds, 0.1, self._random))
            self.tell(await self.take())
            seconds = self._seconds

    async def take(self) -> Sample:
        host = await asyncio.to_thread(self.counters)
        before = self._host or host
        instances = await self._ask()
        self.latest = Sample(
            taken_at_ms=round(self._clock.now().timestamp() * 1000),
            host=host_sample(before, host),
            cache_bytes=self._cache_bytes(),
            instances=instance_samples(self._instances, instances, host.at_seconds - before.at_seconds),
        )
        self._host = host
        self._instances = {one.instance_id: one for one in instances}
        return self.latest

    async def _ask(self) -> Sequence[InstanceCounters]:
        driver = self._driver()
        if driver is None:
            return ()
        found: list[InstanceCounters] = []
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                living = _living(await driver.containers())
                turns = asyncio.Semaphore(_AT_ONCE)
                async with asyncio.TaskGroup() as group:
                    for container in living:
                        group.create_task(self._ask_one(driver, container, turns, found))
        except (Failure, TimeoutError) as error:
            log.debug("instances not sampled", error=str(error), sampled=len(found))
        return found

    async def _ask_one(
        self, driver: RuntimeDriver, container: Container, turns: asyncio.Semaphore, found: list[InstanceCounters]
    ) -> None:
        async with turns:
            try:
                seen = await driver.sample(container.runtime_id)
            except Failure:
                return
        found.append(
            InstanceCounters(
                instance_id=container.instance_id,
                cpu_seconds=seen.cpu_seconds,
                memory_bytes=seen.memory_bytes,
                memory_limit_bytes=seen.memory_limit_bytes,
                received_bytes=seen.received_bytes,
                sent_bytes=seen.sent_bytes,
                processes=seen.processes,
            )
        )


def _living(containers: Sequence[Container]) -> Sequence[Container]:
    """One an instance, the newest, while an older one still goes; no more than are shown."""
    newest: dict[str, Container] = {}
    for container in sorted(containers, key=lambda one: one.generation):
        if container.state in LIVE_STATES:
            newest[container.instance_id] = container
    return [newest[instance_id] for instance_id in sorted(newest)][:MOST_INSTANCES]
