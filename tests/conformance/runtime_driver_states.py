"""What every RuntimeDriver keeps of pausing, samples, snapshots, and of what its engine cannot do. See
runtime_driver.py for `world`.
"""

from __future__ import annotations

import dataclasses

import pytest

from agent.model import ContainerState
from agent.runtimes import EngineCannot, EngineRefused, NotOurs, Sample, Size, SnapshotUnknown
from tests.conformance.runtime_driver import AT_ONCE, SLEEPER, World, order, shown, started, state_of
from tests.conformance.runtime_driver_streams import outcome


class PauseContract:
    async def test_a_paused_container_stands_still_and_goes_on(self, world: World) -> None:
        runtime_id = await started(world)
        for _ in range(2):
            await world.driver.pause(runtime_id)
        assert await state_of(world.driver, runtime_id) is ContainerState.PAUSED
        await world.driver.start(runtime_id)
        assert await state_of(world.driver, runtime_id) is ContainerState.PAUSED
        for _ in range(2):
            await world.driver.resume(runtime_id)
        assert await state_of(world.driver, runtime_id) is ContainerState.RUNNING

    async def test_a_paused_container_can_be_stopped_restarted_and_removed(self, world: World) -> None:
        runtime_id = await started(world)
        await world.driver.pause(runtime_id)
        await world.driver.stop(runtime_id, AT_ONCE)
        assert await state_of(world.driver, runtime_id) is ContainerState.EXITED
        await world.driver.start(runtime_id)
        await world.driver.pause(runtime_id)
        await world.driver.restart(runtime_id, AT_ONCE)
        assert await state_of(world.driver, runtime_id) is ContainerState.RUNNING
        await world.driver.pause(runtime_id)
        await world.driver.remove(runtime_id)
        assert await shown(world.driver, runtime_id) is None

    async def test_what_does_not_run_cannot_be_paused(self, world: World) -> None:
        runtime_id = await started(world)
        await world.driver.stop(runtime_id, AT_ONCE)
        for call in (world.driver.pause(runtime_id), world.driver.resume(runtime_id)):
            with pytest.raises(EngineRefused):
                await call


class SampleContract:
    async def test_a_running_container_uses_something_and_a_standing_one_nothing(self, world: World) -> None:
        spec = dataclasses.replace(SLEEPER, memory_bytes=64 << 20)
        runtime_id = await started(world, spec=spec)
        sample = await world.driver.sample(runtime_id)
        assert sample.memory_bytes > 0
        assert sample.memory_limit_bytes == 64 << 20
        assert sample.cpu_seconds > 0
        assert sample.processes >= 1
        await world.driver.stop(runtime_id, AT_ONCE)
        assert await world.driver.sample(runtime_id) == Sample()

    async def test_nobody_else_is_sampled(self, world: World) -> None:
        foreign = await world.foreign_container("somebody-elses")
        with pytest.raises(NotOurs):
            await world.driver.sample(foreign)


class SnapshotContract:
    async def test_a_snapshot_is_taken_listed_restored_and_deleted(self, world: World) -> None:
        runtime_id = await started(world)
        driver = world.driver
        if not driver.capabilities.snapshots:
            await self._cannot(world, runtime_id)
            return
        assert (await outcome(driver, runtime_id, "sh", "-c", "echo before > /tmp-mark"))[0] == 0
        for _ in range(2):
            await driver.snapshot(runtime_id, "first")
        assert (await outcome(driver, runtime_id, "sh", "-c", "echo after > /tmp-mark"))[0] == 0
        await driver.snapshot(runtime_id, "second")
        assert [one.name for one in await driver.snapshots(runtime_id)] == ["first", "second"]
        await driver.restore(runtime_id, "first")
        await driver.start(runtime_id)
        assert (await outcome(driver, runtime_id, "cat", "/tmp-mark"))[1] == b"before\n"
        with pytest.raises(SnapshotUnknown):
            await driver.restore(runtime_id, "third")
        for _ in range(2):
            await driver.delete_snapshot(runtime_id, "second")
        assert [one.name for one in await driver.snapshots(runtime_id)] == ["first"]

    @staticmethod
    async def _cannot(world: World, runtime_id: str) -> None:
        for call in (
            world.driver.snapshot(runtime_id, "first"),
            world.driver.snapshots(runtime_id),
            world.driver.restore(runtime_id, "first"),
            world.driver.delete_snapshot(runtime_id, "first"),
        ):
            with pytest.raises(EngineCannot):
                await call

    async def test_nobody_elses_snapshots_are_taken(self, world: World) -> None:
        foreign = await world.foreign_container("somebody-elses")
        with pytest.raises(NotOurs):
            await world.driver.snapshot(foreign, "stolen")


class CapabilityContract:
    async def test_a_console_that_the_engine_does_not_have_is_refused(self, world: World) -> None:
        runtime_id = await started(world)
        if world.driver.capabilities.console:
            async with world.driver.console(runtime_id, Size()):
                pass
            assert await state_of(world.driver, runtime_id) is ContainerState.RUNNING
            return
        with pytest.raises(EngineCannot):
            async with world.driver.console(runtime_id, Size()):
                pass

    async def test_a_limit_of_the_disk_is_kept_or_refused(self, world: World) -> None:
        await world.driver.pull("acme/web", world.manifest)
        wanted = order(world, spec=dataclasses.replace(SLEEPER, disk_bytes=64 << 20))
        if world.driver.capabilities.disk_limit:
            assert (await world.details(await world.driver.create(wanted)))["disk_bytes"] == 64 << 20
            return
        with pytest.raises(EngineRefused):
            await world.driver.create(wanted)
        assert await world.driver.containers() == []
