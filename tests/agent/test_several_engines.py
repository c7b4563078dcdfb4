"""Two engines on one host: each image goes to its own, and one that is silent holds up nothing."""

from __future__ import annotations

import dataclasses

import pytest

from agent.model import Health
from agent.runtimes import ContainerOrder, ContainerUnknown, EngineAway
from agent.runtimes.memory import MemoryEngine, MemoryRuntimeDriver
from agent.runtimes.several import DOCKER, LXD, SeveralEngines, engine_for
from common.digest import Digest
from tests.agent.lxd_samples import unified_sample
from tests.agent.samples import sample
from tests.agent.test_runtime_memory import MemoryWorld
from tests.conformance.runtime_driver import RuntimeDriverContract
from tests.conformance.runtime_driver_adoption import AdoptionContract
from tests.conformance.runtime_driver_states import CapabilityContract, PauseContract, SampleContract, SnapshotContract
from tests.conformance.runtime_driver_streams import ExecContract, ExportContract, LogContract

DOCKERS, LXDS = Digest.of(b"oci"), Digest.of(b"lxd")


class Host:
    def __init__(self, *, required: bool = False) -> None:
        self.docker, self.lxd = MemoryEngine(), MemoryEngine()
        drivers = {DOCKER: MemoryRuntimeDriver(self.docker, "host"), LXD: MemoryRuntimeDriver(self.lxd, "host")}
        # Ids of two engines never meet.
        self.lxd.numbers = iter(range(1000, 2000))  # type: ignore[assignment]
        self.both = SeveralEngines(drivers, lambda digest: LXD if digest == LXDS else DOCKER, required=required)

    async def run(self, manifest: Digest, name: str) -> str:
        await self.both.pull("acme/web", manifest)
        runtime_id = await self.both.create(ContainerOrder(name, f"instance-{name}", 1, "a" * 32, manifest))
        await self.both.start(runtime_id)
        return runtime_id


class SeveralWorld(MemoryWorld):
    """All that the contract asks for, of one engine in memory beside another that holds something else."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = self._beside_another(self.driver)  # type: ignore[assignment]
        self.unreachable = SeveralEngines(  # type: ignore[assignment]
            {DOCKER: MemoryRuntimeDriver(MemoryEngine(away=True), "host-1")}, lambda _: DOCKER, required=True
        )

    @staticmethod
    def _beside_another(driver: MemoryRuntimeDriver) -> SeveralEngines:
        another = MemoryRuntimeDriver(MemoryEngine(), "host-1")
        return SeveralEngines({DOCKER: another, LXD: driver}, lambda _: LXD, required=True)


@pytest.fixture
def world() -> SeveralWorld:
    return SeveralWorld()


class TestSeveralEngines(
    RuntimeDriverContract,
    ExecContract,
    LogContract,
    ExportContract,
    PauseContract,
    SampleContract,
    SnapshotContract,
    CapabilityContract,
    AdoptionContract,
):
    pass


@pytest.fixture
async def host() -> Host:
    host = Host()
    await host.both.engines()
    return host


def test_an_images_config_says_which_engine_it_is_for() -> None:
    assert engine_for(sample(b"layer").image) == DOCKER
    assert engine_for(unified_sample(b"image").image) == LXD


async def test_each_image_runs_on_its_engine_and_all_are_listed(host: Host) -> None:
    docker, lxd = await host.run(DOCKERS, "web"), await host.run(LXDS, "system")
    assert set(host.docker.containers) == {docker}
    assert set(host.lxd.containers) == {lxd}
    assert {one.runtime_id for one in await host.both.containers()} == {docker, lxd}
    assert await host.both.images([DOCKERS, LXDS]) == {DOCKERS, LXDS}
    await host.both.remove(lxd)
    assert set(host.lxd.containers) == set()


async def test_a_silent_engines_containers_are_shown_as_last_seen(host: Host) -> None:
    docker, lxd = await host.run(DOCKERS, "web"), await host.run(LXDS, "system")
    before = {one.runtime_id: one for one in await host.both.containers()}
    host.lxd.away = True
    shown = {one.runtime_id: one for one in await host.both.containers()}
    assert shown[docker] == before[docker]
    assert shown[lxd].state is before[lxd].state
    assert (shown[lxd].health, bool(shown[lxd].detail)) == (Health.UNKNOWN, True)
    assert await host.both.images([DOCKERS, LXDS]) == {DOCKERS}
    with pytest.raises(EngineAway):
        await host.both.stop(lxd, 1)
    await host.both.stop(docker, 1)
    host.lxd.away = False
    assert dataclasses.replace(before[lxd]) in await host.both.containers()


async def test_when_all_are_silent_the_host_is_away(host: Host) -> None:
    await host.run(DOCKERS, "web")
    host.docker.away = host.lxd.away = True
    with pytest.raises(EngineAway):
        await host.both.containers()
    with pytest.raises(EngineAway):
        await host.both.describe()


async def test_an_engine_counts_from_its_first_answer() -> None:
    host = Host()
    host.lxd.away = True
    assert [one.kind for one in await host.both.engines()] == ["memory"]
    await host.run(DOCKERS, "web")
    with pytest.raises(EngineAway, match="for lxd"):
        await host.both.pull("acme/system", LXDS)
    host.lxd.away = False
    assert len(await host.both.engines()) == 2
    await host.run(LXDS, "system")


async def test_an_engine_that_was_named_counts_before_it_answers() -> None:
    host = Host(required=True)
    host.lxd.away = True
    await host.run(DOCKERS, "web")
    assert len(await host.both.containers()) == 1
    with pytest.raises(EngineAway, match="switched off"):
        await host.both.pull("acme/system", LXDS)


async def test_an_id_that_no_engine_has_shown_is_unknown(host: Host) -> None:
    with pytest.raises(ContainerUnknown):
        await host.both.start("0" * 64)
