"""What drivers keep that take in instances of other hosts. Both hosts of a world share an engine, so what moves is
removed before it comes back.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence

import pytest

from agent.model import ContainerState
from agent.runtimes import ContainerOrder, EngineCannot, EngineRefused, RuntimeDriver
from common.errors import Unavailable
from tests.conformance.runtime_driver import AT_ONCE, World, order, shown
from tests.conformance.runtime_driver_streams import outcome

MOVE, OTHER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


async def chunks(parts: Sequence[bytes], broken: Exception | None = None) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if broken is not None:
        raise broken


async def archive_of(driver: RuntimeDriver, runtime_id: str) -> list[bytes]:
    async with driver.export(runtime_id, with_snapshots=True) as found:
        return [chunk async for chunk in found]


async def standing(world: World) -> tuple[ContainerOrder, str]:
    """An instance of ours with a file and a snapshot from before it, stopped."""
    wanted = order(world)
    await world.driver.pull("acme/web", world.manifest)
    runtime_id = await world.driver.create(wanted)
    await world.driver.start(runtime_id)
    assert (await outcome(world.driver, runtime_id, "sh", "-c", "echo early > /mark"))[0] == 0
    await world.driver.snapshot(runtime_id, "before")
    assert (await outcome(world.driver, runtime_id, "sh", "-c", "echo late > /mark"))[0] == 0
    await world.driver.stop(runtime_id, AT_ONCE)
    return wanted, runtime_id


class MoveContract:
    async def test_what_stood_on_another_host_runs_here_with_all_that_it_wrote(self, world: World) -> None:
        wanted, runtime_id = await standing(world)
        archive = await archive_of(world.driver, runtime_id)
        await world.driver.remove(runtime_id)
        target = world.neighbour
        for _ in range(2):
            taken = await target.take_in(wanted, MOVE, chunks(archive))
        container = await shown(target, taken)
        assert container is not None
        assert (container.instance_id, container.spec_hash, container.move) == (wanted.instance_id, "a" * 32, MOVE)
        assert container.state in (ContainerState.CREATED, ContainerState.EXITED)
        assert container.name != wanted.name
        assert await world.driver.containers() == []
        await target.rename(taken, wanted.name)
        await target.start(taken)
        container = await shown(target, taken)
        assert container is not None
        assert (container.name, container.state) == (wanted.name, ContainerState.RUNNING)
        assert (await outcome(target, taken, "cat", "/mark"))[1] == b"late\n"
        assert [one.name for one in await target.snapshots(taken)] == ["before"]
        await target.restore(taken, "before")
        container = await shown(target, taken)
        assert container is not None  # the snapshot is of the other host's time, and it is still ours
        assert (container.name, container.move) == (wanted.name, MOVE)
        await target.start(taken)
        assert (await outcome(target, taken, "cat", "/mark"))[1] == b"early\n"

    async def test_an_instance_that_is_there_is_not_taken_in_a_second_time(self, world: World) -> None:
        wanted, runtime_id = await standing(world)
        archive = await archive_of(world.driver, runtime_id)
        with pytest.raises(EngineRefused):
            await world.neighbour.take_in(wanted, MOVE, chunks(archive))
        assert await shown(world.driver, runtime_id) is not None
        assert await world.neighbour.containers() == []

    async def test_of_what_breaks_off_nothing_is_taken(self, world: World) -> None:
        wanted, runtime_id = await standing(world)
        archive = b"".join(await archive_of(world.driver, runtime_id))
        await world.driver.remove(runtime_id)
        with pytest.raises(Unavailable, match="the line broke"):
            await world.neighbour.take_in(
                wanted, MOVE, chunks([archive[: len(archive) // 2]], Unavailable("the line broke"))
            )
        with pytest.raises(EngineRefused):
            await world.neighbour.take_in(wanted, MOVE, chunks([b"no archive at all" * 100]))
        assert await world.neighbour.containers() == []
        taken = await world.neighbour.take_in(wanted, MOVE, chunks([archive]))
        await world.neighbour.clear_taken(lambda: {MOVE, OTHER})
        await world.driver.clear_taken(set)  # the other host's
        assert await shown(world.neighbour, taken) is not None


class NoMoveContract:
    async def test_an_engine_that_takes_nothing_in_says_so(self, world: World) -> None:
        assert not world.driver.capabilities.move
        with pytest.raises(EngineCannot):
            await world.driver.take_in(order(world), MOVE, chunks([b""]))
        await world.driver.clear_taken(set)
