"""What every RuntimeDriver keeps; each implementation's test subclasses `RuntimeDriverContract` and supplies `world`.

The world knows how to make images and foreign containers behind the driver's back, which is how the suite proves that
a driver leaves alone what is not ours.
"""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import pytest

from agent.model import Container, ContainerSpec, ContainerState, Health, HealthCheck, Mount, PortMapping
from agent.runtimes import (
    Channel,
    ContainerOrder,
    ContainerUnknown,
    EngineAway,
    EngineRefused,
    NotOurs,
    RuntimeDriver,
)
from common.digest import Digest

REPOSITORY = "acme/web"
AT_ONCE = 0  # seconds of grace: what sleeps as the first process of a container does not heed the asking
SLEEPER = ContainerSpec(command=("/bin/sleep", "3600"), stop_grace_seconds=1)


class World(Protocol):
    """One engine with two drivers of two hosts on it, and a third that reaches no engine."""

    driver: RuntimeDriver
    neighbour: RuntimeDriver
    unreachable: RuntimeDriver
    manifest: Digest
    absent_manifest: Digest

    async def foreign_container(self, name: str) -> str:
        """Somebody else's running container without our labels; its engine id."""
        ...

    async def foreign_is_running(self, runtime_id: str) -> bool: ...

    async def forget_image(self) -> None: ...

    async def offered_container(self, name: str, spec: ContainerSpec, labels: Mapping[str, str]) -> str:
        """Somebody else's running container of the image `manifest`, with what no specification can say; its id."""
        ...

    async def speak(self, runtime_id: str, channel: Channel, text: str) -> None:
        """The running container writes a line."""
        ...

    async def commands(self, runtime_id: str) -> str:
        """What runs inside now."""
        ...

    async def kept_beyond(self, runtime_id: str) -> bool:
        """Whether it has what `offered_container` gave it beyond its specification."""
        ...

    async def details(self, runtime_id: str) -> dict[str, object]:
        """What the engine really set: environment, labels, ports, mounts, cpus, memory_bytes, command, privileged."""
        ...


def order(world: World, **changes: object) -> ContainerOrder:
    identity = str(uuid.uuid4())
    made = ContainerOrder(
        name=f"ls-acme-web-{identity[-8:]}",
        instance_id=identity,
        generation=3,
        spec_hash="a" * 32,
        manifest=world.manifest,
        spec=SLEEPER,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


async def started(world: World, **changes: object) -> str:
    """A running container of ours."""
    await world.driver.pull(REPOSITORY, world.manifest)
    runtime_id = await world.driver.create(order(world, **changes))
    await world.driver.start(runtime_id)
    return runtime_id


async def shown(driver: RuntimeDriver, runtime_id: str) -> Container | None:
    return next((one for one in await driver.containers() if one.runtime_id == runtime_id), None)


async def state_of(driver: RuntimeDriver, runtime_id: str) -> ContainerState:
    container = await shown(driver, runtime_id)
    assert container is not None
    return container.state


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110  an engine of another process tells nobody
            await asyncio.sleep(0.05)


class RuntimeDriverContract:
    async def test_it_describes_its_engine(self, world: World) -> None:
        engine = await world.driver.describe()
        assert engine.kind
        assert engine.version

    async def test_an_engine_that_is_away_is_said_to_be_away(self, world: World) -> None:
        for call in (
            world.unreachable.describe(),
            world.unreachable.containers(),
            world.unreachable.images([world.manifest]),
            world.unreachable.create(order(world)),
            world.unreachable.start("0" * 64),
            world.unreachable.remove("0" * 64),
        ):
            with pytest.raises(EngineAway):
                await call

    async def test_an_image_is_there_by_digest_once_pulled_and_pulling_again_is_harmless(self, world: World) -> None:
        await world.forget_image()
        assert await world.driver.images([world.manifest]) == frozenset()
        await world.driver.pull(REPOSITORY, world.manifest)
        await world.driver.pull(REPOSITORY, world.manifest)
        assert await world.driver.images([world.manifest, world.absent_manifest]) == {world.manifest}

    async def test_an_image_that_several_want_at_once_is_pulled_for_all_of_them(self, world: World) -> None:
        await world.forget_image()
        await asyncio.gather(*(world.driver.pull(REPOSITORY, world.manifest) for _ in range(3)))
        assert await world.driver.images([world.manifest]) == {world.manifest}

    async def test_a_container_goes_through_its_life(self, world: World) -> None:
        await world.driver.pull(REPOSITORY, world.manifest)
        wanted = order(world)
        runtime_id = await world.driver.create(wanted)
        container = await shown(world.driver, runtime_id)
        assert container is not None
        assert (container.name, container.instance_id) == (wanted.name, wanted.instance_id)
        assert (container.generation, container.spec_hash) == (3, wanted.spec_hash)
        assert container.state is ContainerState.CREATED
        await world.driver.start(runtime_id)
        assert await state_of(world.driver, runtime_id) is ContainerState.RUNNING
        await world.driver.restart(runtime_id, AT_ONCE)
        assert await state_of(world.driver, runtime_id) is ContainerState.RUNNING
        await world.driver.stop(runtime_id, 1)
        assert await state_of(world.driver, runtime_id) is ContainerState.EXITED
        await world.driver.start(runtime_id)
        assert await state_of(world.driver, runtime_id) is ContainerState.RUNNING
        await world.driver.stop(runtime_id, AT_ONCE)
        await world.driver.remove(runtime_id)
        assert await shown(world.driver, runtime_id) is None

    async def test_every_call_may_be_repeated(self, world: World) -> None:
        await world.driver.pull(REPOSITORY, world.manifest)
        wanted = order(world)
        runtime_id = await world.driver.create(wanted)
        assert await world.driver.create(wanted) == runtime_id
        await world.driver.stop(runtime_id, AT_ONCE)
        for _ in range(2):
            await world.driver.start(runtime_id)
        for _ in range(2):
            await world.driver.stop(runtime_id, AT_ONCE)
        for _ in range(2):
            await world.driver.rename(runtime_id, f"{wanted.name}.old")
        for _ in range(2):
            await world.driver.remove(runtime_id)

    async def test_a_running_container_can_be_removed(self, world: World) -> None:
        await world.driver.pull(REPOSITORY, world.manifest)
        runtime_id = await world.driver.create(order(world))
        await world.driver.start(runtime_id)
        await world.driver.remove(runtime_id)
        assert await shown(world.driver, runtime_id) is None

    async def test_what_is_not_there_cannot_be_started(self, world: World) -> None:
        for call in (
            world.driver.start("0" * 64),
            world.driver.stop("0" * 64, AT_ONCE),
            world.driver.restart("0" * 64, AT_ONCE),
            world.driver.rename("0" * 64, "anything"),
        ):
            with pytest.raises(ContainerUnknown):
                await call

    async def test_a_container_without_its_image_is_refused(self, world: World) -> None:
        with pytest.raises(EngineRefused):
            await world.driver.create(order(world, manifest=world.absent_manifest))

    async def test_the_specification_reaches_the_engine(self, world: World) -> None:
        await world.driver.pull(REPOSITORY, world.manifest)
        spec = dataclasses.replace(
            SLEEPER,
            environment={"COLOUR": "green", "EMPTY": ""},
            labels={"team": "blue", "longshore.host": "stolen"},
            ports=(PortMapping("", 0, 8080), PortMapping("127.0.0.1", 0, 53, "udp")),
            mounts=(Mount("longshore-test-data", "/data"), Mount("longshore-test-ro", "/ro", read_only=True)),
            cpus=0.5,
            memory_bytes=64 << 20,
        )
        details = await world.details(await world.driver.create(order(world, spec=spec)))
        assert details["environment"] == {"COLOUR": "green", "EMPTY": ""}
        labels = details["labels"]
        assert isinstance(labels, dict)
        assert labels["team"] == "blue"
        assert labels["longshore.host"] != "stolen"
        assert details["ports"] == {"8080/tcp": "127.0.0.1", "53/udp": "127.0.0.1"}
        assert details["mounts"] == {"/data": ("longshore-test-data", False), "/ro": ("longshore-test-ro", True)}
        assert details["cpus"] == 0.5
        assert details["memory_bytes"] == 64 << 20
        assert details["command"] == ["/bin/sleep", "3600"]
        assert details["privileged"] is False

    async def test_a_health_check_speaks(self, world: World) -> None:
        await world.driver.pull(REPOSITORY, world.manifest)
        check = HealthCheck(("/bin/true",), interval_seconds=1, timeout_seconds=5, retries=1)
        runtime_id = await world.driver.create(order(world, spec=dataclasses.replace(SLEEPER, health_check=check)))
        await world.driver.start(runtime_id)

        async def healthy() -> bool:
            container = await shown(world.driver, runtime_id)
            return container is not None and container.health is Health.HEALTHY

        await until(healthy)

    async def test_without_a_health_check_there_is_no_health(self, world: World) -> None:
        await world.driver.pull(REPOSITORY, world.manifest)
        runtime_id = await world.driver.create(order(world))
        await world.driver.start(runtime_id)
        container = await shown(world.driver, runtime_id)
        assert container is not None
        assert container.health is Health.NONE

    async def test_only_ours_are_listed_and_touched(self, world: World) -> None:
        await world.driver.pull(REPOSITORY, world.manifest)
        foreign = await world.foreign_container("somebody-elses")
        neighbours = await world.neighbour.create(order(world))
        await world.neighbour.start(neighbours)
        ours = await world.driver.create(order(world))
        assert [one.runtime_id for one in await world.driver.containers()] == [ours]
        for other in (foreign, neighbours):
            for call in (
                world.driver.start(other),
                world.driver.stop(other, AT_ONCE),
                world.driver.restart(other, AT_ONCE),
                world.driver.rename(other, "stolen"),
                world.driver.remove(other),
            ):
                with pytest.raises(NotOurs):
                    await call
        assert await world.foreign_is_running(foreign)
        assert await state_of(world.neighbour, neighbours) is ContainerState.RUNNING

    async def test_a_name_that_is_taken_by_another_is_refused(self, world: World) -> None:
        await world.driver.pull(REPOSITORY, world.manifest)
        foreign = await world.foreign_container("ls-taken-name")
        with pytest.raises(EngineRefused):
            await world.driver.create(order(world, name="ls-taken-name"))
        first = order(world)
        await world.driver.create(first)
        with pytest.raises(EngineRefused):
            await world.driver.create(dataclasses.replace(first, spec_hash="b" * 32))
        assert await world.foreign_is_running(foreign)

    async def test_a_change_of_specification_keeps_the_name(self, world: World) -> None:
        await world.driver.pull(REPOSITORY, world.manifest)
        old = order(world)
        old_id = await world.driver.create(old)
        await world.driver.start(old_id)
        await world.driver.stop(old_id, AT_ONCE)
        await world.driver.rename(old_id, f"{old.name}.old-{old_id[:12]}")
        new_id = await world.driver.create(dataclasses.replace(old, spec_hash="b" * 32, generation=4))
        await world.driver.start(new_id)
        await world.driver.remove(old_id)
        (container,) = await world.driver.containers()
        assert (container.runtime_id, container.name, container.generation) == (new_id, old.name, 4)
