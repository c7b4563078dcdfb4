from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import socket
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import docker
import pytest
from docker.models.networks import Network
from docker.transport.unixconn import UnixHTTPConnectionPool
from docker.types import IPAMConfig, IPAMPool, Ulimit
from docker.types import Mount as DockerMount

from agent.cache import ContentCache
from agent.mirror import Mirror
from agent.model import ContainerSpec, ContainerState, Mount
from agent.runtimes import LABEL_ADOPT, Channel, EngineAway, EngineRefused, ExecOrder, LogQuery, RuntimeDriver
from agent.runtimes.docker import DockerRuntimeDriver
from agent.runtimes.docker_streams import DockerSocket
from common.digest import Digest
from tests.agent.samples import Sample, assignment, assignments, sample
from tests.agent.sockets import loopback_socket
from tests.conformance.runtime_driver import SLEEPER, RuntimeDriverContract, order, shown, started, state_of, until
from tests.conformance.runtime_driver_adoption import AdoptionContract
from tests.conformance.runtime_driver_moves import NoMoveContract
from tests.conformance.runtime_driver_states import (
    CapabilityContract,
    PauseContract,
    SampleContract,
    SnapshotContract,
)
from tests.conformance.runtime_driver_streams import ExecContract, ExportContract, LogContract, outcome
from tests.engines.busybox import root_file_system
from tests.engines.dockerd import IMAGE, DockerEngine
from tests.pace import BUSY_SECONDS

SUBNET = IPAMConfig(pool_configs=[IPAMPool(subnet="10.234.7.0/24")])


class DockerWorld:
    absent_manifest = Digest.of(b"no image")

    def __init__(self, engine: DockerEngine, mirror: Mirror, image: Sample) -> None:
        self.engine = engine
        self.manifest = image.image.manifest.digest
        self.driver: RuntimeDriver = DockerRuntimeDriver(engine.host, "host-1", lambda: mirror.address)
        self.neighbour: RuntimeDriver = DockerRuntimeDriver(engine.host, "host-2", lambda: mirror.address)
        self.unreachable: RuntimeDriver = DockerRuntimeDriver(
            "unix:///nowhere/docker.sock", "host-1", lambda: mirror.address
        )
        self.client = engine.client()
        self.network: Network | None = None
        self.nameless = ""

    async def foreign_container(self, name: str) -> str:
        run = self.client.containers.run
        made = await asyncio.to_thread(run, IMAGE, ["sleep", "600"], name=name, detach=True, network_mode="none")
        return str(made.id)

    async def foreign_is_running(self, runtime_id: str) -> bool:
        return bool((await asyncio.to_thread(self.client.containers.get, runtime_id)).status == "running")

    async def offered_container(self, name: str, spec: ContainerSpec, labels: Mapping[str, str]) -> str:
        return await asyncio.to_thread(self._offer, name, spec, labels)

    def _offer(self, name: str, spec: ContainerSpec, labels: Mapping[str, str]) -> str:
        images = [held for image in self.client.images.list() for held in image.attrs["RepoDigests"]]
        container = self.client.containers.create(
            next(held for held in images if held.endswith(str(self.manifest))),
            list(spec.command),
            name=name,
            labels=dict(labels),
            environment=dict(spec.environment),
            mem_limit=spec.memory_bytes,
            mounts=[DockerMount(one.target, one.volume) for one in spec.mounts] + [DockerMount("/nameless", None)],
            cap_add=["NET_ADMIN"],
            ulimits=[Ulimit(name="nofile", soft=1234, hard=2345)],
            restart_policy={"Name": "on-failure", "MaximumRetryCount": 4},
        )
        self.network = self.client.networks.create("longshore-test-net", ipam=SUBNET)
        self.network.connect(container, aliases=["frontend"], ipv4_address="10.234.7.9")
        container.start()
        self.nameless = next(
            one["Name"]
            for one in self.client.api.inspect_container(str(container.id))["Mounts"]
            if one["Destination"] == "/nameless"
        )
        return str(container.id)

    async def kept_beyond(self, runtime_id: str) -> bool:
        inspected = await asyncio.to_thread(self.client.api.inspect_container, runtime_id)
        config, host = inspected["Config"], inspected["HostConfig"]
        endpoint = inspected["NetworkSettings"]["Networks"].get("longshore-test-net", {})
        volumes = {one["Destination"]: one["Name"] for one in inspected["Mounts"]}
        found = {
            "capabilities": [one.removeprefix("CAP_") for one in host["CapAdd"] or ()] == ["NET_ADMIN"],
            "limits": host["Ulimits"] == [{"Name": "nofile", "Soft": 1234, "Hard": 2345}],
            "restart policy": host["RestartPolicy"]["Name"] == "on-failure",
            "environment": "COLOUR=red" in config["Env"],
            "labels": config["Labels"].get("team") == "blue" and LABEL_ADOPT not in config["Labels"],
            "memory": host["Memory"] == 64 << 20,
            "volumes": volumes == {"/data": "longshore-test-data", "/nameless": self.nameless},
            "alias": "frontend" in (endpoint.get("Aliases") or ()),
            "address": (endpoint.get("IPAMConfig") or {}).get("IPv4Address") == "10.234.7.9",
            "first network": "bridge" in inspected["NetworkSettings"]["Networks"],
        }
        assert all(found.values()), found
        return True

    async def speak(self, runtime_id: str, channel: Channel, text: str) -> None:
        script = f"echo {text} > /proc/1/fd/{1 if channel is Channel.OUTPUT else 2}"
        container = await asyncio.to_thread(self.client.containers.get, runtime_id)
        assert (await asyncio.to_thread(container.exec_run, ["sh", "-c", script])).exit_code == 0

    async def commands(self, runtime_id: str) -> str:
        return str((await asyncio.to_thread(self.client.api.top, runtime_id))["Processes"])

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
            "disk_bytes": 0,
        }

    async def close(self) -> None:
        if self.network is not None:
            await asyncio.to_thread(self.engine.remove_containers)
            await asyncio.to_thread(self.network.remove)
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
class TestDockerExec(ExecContract):
    pass


@pytest.mark.engine("docker")
class TestDockerLogs(LogContract):
    pass


@pytest.mark.engine("docker")
class TestDockerExport(ExportContract):
    pass


@pytest.mark.engine("docker")
class TestDockerPause(PauseContract):
    pass


@pytest.mark.engine("docker")
class TestDockerSample(SampleContract):
    pass


@pytest.mark.engine("docker")
class TestDockerSnapshots(SnapshotContract):
    pass


@pytest.mark.engine("docker")
class TestDockerMoves(NoMoveContract):
    pass


@pytest.mark.engine("docker")
class TestDockerCapabilities(CapabilityContract):
    pass


@pytest.mark.engine("docker")
class TestDockerAdoption(AdoptionContract):
    pass


@pytest.mark.engine("docker")
async def test_after_kill_nine_of_dockerd_the_container_is_found_and_can_be_started(world: DockerWorld) -> None:
    await world.driver.pull("acme/web", world.manifest)
    runtime_id = await world.driver.create(order(world, spec=SLEEPER))
    await world.driver.start(runtime_id)
    async with asyncio.timeout(15), world.driver.execute(runtime_id, ExecOrder(("cat",), input=True)) as session:
        async with world.driver.logs(runtime_id, LogQuery(follow=True)) as pieces:
            world.engine.kill()
            with contextlib.suppress(EngineAway):
                assert [piece async for piece in pieces] == []
        with contextlib.suppress(EngineAway):
            assert await session.read() is None
        with pytest.raises(EngineAway):
            await session.exit_code()
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
        streams = (
            driver.logs("0" * 64, LogQuery()),
            driver.execute("0" * 64, ExecOrder(("true",))),
            driver.export("0" * 64),
            DockerSocket(f"unix://{path}", 0.2).answer("/", {}, None),
        )
        async with asyncio.timeout(BUSY_SECONDS):
            with pytest.raises(EngineAway):
                await driver.containers()
            for stream in streams:
                with pytest.raises(EngineAway):
                    await stream.__aenter__()
            with pytest.raises(EngineAway):
                await DockerSocket(f"unix://{path}", 0.2).take_over("/", {})
        await driver.close()


@pytest.mark.engine("docker")
async def test_streams_that_are_left_leave_neither_threads_nor_sockets_nor_commands(world: DockerWorld) -> None:
    runtime_id = await started(world)

    async def look() -> tuple[int, int, int]:
        sockets = await asyncio.to_thread(_sockets)
        # Pools of threads are bounded, and grow only when nobody in them is idle: they are not counted.
        own = [one for one in threading.enumerate() if not one.name.startswith(("docker", "asyncio_"))]
        return len(own), sockets, (await world.commands(runtime_id)).count("4321")

    async def visit() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2), world.driver.logs(runtime_id, LogQuery(follow=True)) as pieces:
                await anext(pieces)
        async with world.driver.execute(runtime_id, ExecOrder(("sh", "-c", "sleep 4321 & sleep 4321"))):
            pass
        async with world.driver.export(runtime_id) as archive:
            await anext(archive)

    await asyncio.gather(*(visit() for _ in range(8)))
    threads, sockets, _ = await look()
    for _ in range(2):
        await asyncio.gather(*(visit() for _ in range(8)))

    now = (0, 0, 0)

    async def gone() -> bool:
        nonlocal now
        now = await look()
        return now[0] <= threads and now[1] <= sockets and now[2] == 0

    try:
        await until(gone)
    except TimeoutError:
        commands = await world.commands(runtime_id)
        pytest.fail(f"threads, sockets, commands: {now} are left, {threads} and {sockets} at first\n{commands}")


def _sockets() -> int:
    """Without those that Docker's library keeps for later: a few for each address that it asked lately."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += "socket" in str(link.readlink())
    pools = [one for one in gc.get_objects() if isinstance(one, UnixHTTPConnectionPool) and one.pool is not None]
    return found - sum(one is not None and one.sock is not None for pool in pools for one in pool.pool.queue)


@pytest.mark.engine("docker")
async def test_the_image_is_known_by_digest_whatever_port_the_mirror_has(world: DockerWorld) -> None:
    await world.driver.pull("acme/web", world.manifest)
    elsewhere = DockerRuntimeDriver(world.engine.host, "host-1", lambda: "127.0.0.1:1")
    assert await elsewhere.images([world.manifest]) == {world.manifest}
    await elsewhere.pull("acme/web", world.manifest)
    await elsewhere.create(order(world))
    await elsewhere.close()


@pytest.mark.engine("docker")
async def test_what_only_docker_can_be_asked_for_reaches_it(world: DockerWorld, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "note").write_text("from the host\n")
    spec = dataclasses.replace(
        SLEEPER,
        network="none",
        hostname="web-1",
        user="65534:65534",
        working_dir="/tmp",
        cpu_set="0",
        mounts=(Mount("", "/shared", True, f"{tmp_path}/shared"),),
    )
    runtime_id = await started(world, spec=spec)
    driver = world.driver
    assert (await outcome(driver, runtime_id, "hostname"))[1] == b"web-1\n"
    assert (await outcome(driver, runtime_id, "pwd"))[1] == b"/tmp\n"
    assert (await outcome(driver, runtime_id, "id", "-u"))[1] == b"65534\n"
    assert (await outcome(driver, runtime_id, "cat", "/shared/note"))[1] == b"from the host\n"
    assert (await outcome(driver, runtime_id, "sh", "-c", "echo x > /shared/note"))[0] != 0
    assert b"eth0" not in (await outcome(driver, runtime_id, "ls", "/sys/class/net"))[1]
    inspected = await asyncio.to_thread(world.client.api.inspect_container, runtime_id)
    assert inspected["HostConfig"]["CpusetCpus"] == "0"
    nowhere = await driver.create(order(world, spec=dataclasses.replace(SLEEPER, network="no-such-network")))
    with pytest.raises(EngineRefused, match="no-such-network"):
        await driver.start(nowhere)
