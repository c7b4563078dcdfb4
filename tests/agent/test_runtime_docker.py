from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import docker
import pytest

from agent.cache import ContentCache
from agent.mirror import Mirror
from agent.model import ContainerState
from agent.runtimes import EngineAway
from agent.runtimes.docker import DockerRuntimeDriver
from common.digest import Digest
from tests.agent.samples import Sample, assignment, assignments, sample
from tests.agent.sockets import loopback_socket
from tests.conformance.runtime_driver import SLEEPER, RuntimeDriverContract, order, shown, state_of, until
from tests.engines.busybox import root_file_system
from tests.engines.dockerd import IMAGE, DockerEngine


class DockerWorld:
    absent_manifest = Digest.of(b"no image")

    def __init__(self, engine: DockerEngine, mirror: Mirror, image: Sample) -> None:
        self.engine = engine
        self.manifest = image.image.manifest.digest
        self.driver = DockerRuntimeDriver(engine.host, "host-1", lambda: mirror.address)
        self.neighbour = DockerRuntimeDriver(engine.host, "host-2", lambda: mirror.address)
        self.unreachable = DockerRuntimeDriver("unix:///nowhere/docker.sock", "host-1", lambda: mirror.address)
        self.client = engine.client()

    async def foreign_container(self, name: str) -> str:
        run = self.client.containers.run
        made = await asyncio.to_thread(run, IMAGE, ["sleep", "600"], name=name, detach=True, network_mode="none")
        return str(made.id)

    async def foreign_is_running(self, runtime_id: str) -> bool:
        return bool((await asyncio.to_thread(self.client.containers.get, runtime_id)).status == "running")

    async def forget_image(self) -> None:
        with contextlib.suppress(docker.errors.ImageNotFound):
            for image in self.client.images.list():
                for name in image.attrs["RepoDigests"]:
                    if name.endswith(str(self.manifest)):
                        self.client.images.remove(name, force=True)

    async def details(self, runtime_id: str) -> dict[str, object]:
        inspected = await asyncio.to_thread(self.client.api.inspect_container, runtime_id)
        config, host = inspected["Config"], inspected["HostConfig"]
        environment = dict(item.split("=", 1) for item in config["Env"])
        environment.pop("PATH")
        return {
            "environment": environment,
            "labels": config["Labels"],
            "ports": {port: bindings[0]["HostIp"] for port, bindings in host["PortBindings"].items()},
            "mounts": {one["Target"]: (one["Source"], one.get("ReadOnly", False)) for one in host["Mounts"]},
            "cpus": host["NanoCpus"] / 1e9,
            "memory_bytes": host["Memory"],
            "command": config["Cmd"],
            "privileged": host["Privileged"],
        }

    async def close(self) -> None:
        self.client.close()
        for driver in (self.driver, self.neighbour, self.unreachable):
            await driver.close()


@pytest.fixture
async def world(docker_engine: DockerEngine, tmp_path: Path) -> AsyncIterator[DockerWorld]:
    image = sample(root_file_system(), command=("/bin/sh",))
    cache = ContentCache(tmp_path / "content")
    await cache.open()
    await image.put_into(cache, tmp_path)
    held = assignments(assignment(image.image))
    listener = loopback_socket(docker_engine.netns)
    async with Mirror(lambda: held, cache, listener=listener) as mirror:
        world = DockerWorld(docker_engine, mirror, image)
        try:
            yield world
        finally:
            await world.close()


@pytest.mark.engine("docker")
class TestDockerRuntimeDriver(RuntimeDriverContract):
    pass


@pytest.mark.engine("docker")
async def test_after_kill_nine_of_dockerd_the_container_is_found_and_can_be_started(world: DockerWorld) -> None:
    await world.driver.pull("acme/web", world.manifest)
    runtime_id = await world.driver.create(order(world, spec=SLEEPER))
    await world.driver.start(runtime_id)
    world.engine.kill()
    with pytest.raises(EngineAway):
        await world.driver.containers()
    # In this thread: the engine's parent death signal is bound to the thread that starts it.
    world.engine.start()

    async def found() -> bool:
        with contextlib.suppress(EngineAway):
            return await shown(world.driver, runtime_id) is not None
        return False

    await until(found, 30)
    await world.driver.start(runtime_id)
    assert await state_of(world.driver, runtime_id) is ContainerState.RUNNING


@pytest.mark.engine("docker")
async def test_a_hung_engine_is_said_to_be_away_within_the_deadline(world: DockerWorld, tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        driver = DockerRuntimeDriver(f"unix://{path}", "host-1", lambda: "", question_seconds=1)
        async with asyncio.timeout(10):
            with pytest.raises(EngineAway):
                await driver.containers()
        await driver.close()


@pytest.mark.engine("docker")
async def test_the_image_is_known_by_digest_whatever_port_the_mirror_has(world: DockerWorld) -> None:
    await world.driver.pull("acme/web", world.manifest)
    elsewhere = DockerRuntimeDriver(world.engine.host, "host-1", lambda: "127.0.0.1:1")
    assert await elsewhere.images([world.manifest]) == {world.manifest}
    await elsewhere.pull("acme/web", world.manifest)
    await elsewhere.create(order(world))
    await elsewhere.close()
