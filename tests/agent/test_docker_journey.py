"""From an assignment to a container on a real dockerd, pulled from the agent's own mirror; and through its faults."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container

from agent.mirror import Mirror
from agent.model import Assignment, ContainerSpec, DesiredState, Health, HealthCheck, Phase, PortMapping
from agent.runtimes import LABEL_ADOPT, LABEL_INSTANCE
from agent.runtimes.choice import RuntimeChoice
from agent.runtimes.docker import DockerRuntimeDriver
from agent.streaming import Streams
from common.clock import SystemClock
from tests.agent.lab import Agent, Lab
from tests.agent.samples import INSTANCE, Sample, assignment, noise, sample
from tests.agent.slow_source import SlowSource
from tests.agent.sockets import loopback_socket
from tests.engines.busybox import root_file_system
from tests.engines.dockerd import IMAGE, DockerEngine

pytestmark = pytest.mark.engine("docker")

SERVER = ContainerSpec(
    command=("/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/etc"),
    environment={"COLOUR": "green"},
    ports=(PortMapping("", 18081, 8080),),
    health_check=HealthCheck(("/bin/true",), interval_seconds=1, timeout_seconds=5, retries=1),
    stop_grace_seconds=1,
)
HOST = "host-1"


class Site:
    """An agent on a real dockerd, and a look behind its back."""

    def __init__(self, agent: Agent, engine: DockerEngine, image: Sample, newer: Sample) -> None:
        self.agent, self.engine, self.image, self.newer = agent, engine, image, newer

    async def containers(self, *, running_only: bool = True) -> list[Container]:
        def look() -> list[Container]:
            with contextlib.closing(self.engine.client()) as client:
                label = {"label": f"{LABEL_INSTANCE}={INSTANCE}"}
                return list(client.containers.list(all=not running_only, filters=label, ignore_removed=True))

        return await asyncio.to_thread(look)

    async def eventually(self, condition: Callable[[list[Container]], bool], seconds: float = 40) -> list[Container]:
        """Every container of the instance, running or not, once they are as wished."""
        found: list[Container] = []
        try:
            async with asyncio.timeout(seconds):
                while True:
                    with contextlib.suppress(Exception):  # dockerd may be away just now
                        found = await self.containers(running_only=False)
                        if condition(found):
                            return found
                    await asyncio.sleep(0.1)
        except TimeoutError:
            states = [(one.name, one.status, one.attrs["State"]) for one in found]
            raise AssertionError((states, self.agent.told())) from None

    def wanted(self, image: Sample | None = None, **changes: Any) -> Assignment:
        return assignment((image or self.image).image, **{"container": SERVER, **changes})

    async def healthy(self, generation: int = 1) -> str:
        async with asyncio.timeout(40):
            while True:
                report = await self.agent.until(INSTANCE, Phase.RUNNING, 40)
                if report.health is Health.HEALTHY and report.generation == generation:
                    return report.runtime_id
                await asyncio.sleep(0.05)


@pytest.fixture
async def site(docker_engine: DockerEngine, tmp_path: Path) -> AsyncIterator[Site]:
    root = root_file_system()
    image, newer = sample(root, command=("/bin/sh",)), sample(root, noise_layer(), tag="1.5", command=("/bin/sh",))
    async with SlowSource() as centre:
        for one in (image, newer):
            centre.hold(*one.bytes_of.values(), metainfo=False)
        lab = Lab(tmp_path, centre)
        async with lab.open() as agent:
            listener = loopback_socket(docker_engine.netns)
            streams = Streams(agent.fetcher, agent.cache, SystemClock())
            mirror = Mirror(lambda: agent.book.current, agent.cache, listener=listener, streams=streams)
            await agent.lifecycle.enter(mirror)
            driver = DockerRuntimeDriver(docker_engine.host, HOST, lambda: mirror.address)
            await agent.lifecycle.enter(RuntimeChoice(driver, required=True))
            agent.driver = driver  # type: ignore[assignment]  # the lab's is the memory one
            agent.reconcile()
            yield Site(agent, docker_engine, image, newer)


def noise_layer() -> bytes:
    """One more layer, which makes another image: an empty tar archive, followed by what tar ignores."""
    return bytes(10240) + noise(1024)


def running(found: list[Container]) -> list[Container]:
    return [one for one in found if one.status == "running"]


def one_running(found: list[Container]) -> bool:
    return len(found) == 1 and len(running(found)) == 1


async def test_push_button_to_healthy_container_and_away_again(site: Site) -> None:
    await site.agent.assign(site.wanted())
    runtime_id = await site.healthy()
    (container,) = await site.containers()
    assert container.id == runtime_id
    assert container.name == site.wanted().container_name
    assert container.attrs["HostConfig"]["PortBindings"] == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18081"}]}
    inside = [*site.engine.command_prefix, "/bin/busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:18081/passwd"]
    asking = await asyncio.create_subprocess_exec(*inside, stdout=asyncio.subprocess.PIPE)
    answer, _ = await asking.communicate()
    assert b"root:x:0:0" in answer
    await site.agent.assign(site.wanted(desired=DesiredState.STOPPED, generation=2))
    await site.agent.until(INSTANCE, Phase.STOPPED)
    await site.agent.assign(site.wanted(generation=3))
    await site.healthy(3)
    await site.agent.assign()
    await site.agent.until(INSTANCE, Phase.REMOVED)
    assert await site.containers(running_only=False) == []


async def test_dockerd_waits_for_a_layer_that_still_comes_and_starts_one_container(site: Site) -> None:
    centre = site.agent.lab.centre
    assert isinstance(centre, SlowSource)
    # An image that this dockerd has not seen in other tests.
    image = sample(root_file_system(), bytes(10240) + noise(2048), command=("/bin/sh",))
    layer = image.image.contents[-1]
    centre.hold(*image.bytes_of.values(), metainfo=False)
    centre.kept_back = layer.digest
    await site.agent.assign(site.wanted(image))
    # The reconciler fetches it, and dockerd reads along: its pull began before the layer was here.
    async with asyncio.timeout(20):
        async with site.agent.fetcher.aboard(layer, "tenant-1") as flight:
            while flight.aboard < 3:  # noqa: ASYNC110  a state is looked at
                await asyncio.sleep(0.02)
    assert await site.containers(running_only=False) == []
    centre.let_go.set()
    await site.healthy()
    assert one_running(await site.containers(running_only=False))
    assert centre.sent[str(layer.digest)] == layer.size_bytes


async def test_after_kill_nine_of_dockerd_it_runs_again(site: Site) -> None:
    await site.agent.assign(site.wanted())
    await site.healthy()
    site.engine.kill()
    await site.agent.until(INSTANCE, Phase.FAILED)
    assert "Docker does not answer" in site.agent.reports[INSTANCE].detail
    site.engine.start()
    await site.eventually(one_running)
    await site.agent.until(INSTANCE, Phase.RUNNING, 30)


async def test_a_container_that_somebody_killed_or_removed_comes_back(site: Site) -> None:
    await site.agent.assign(site.wanted())
    first = await site.healthy()
    (container,) = await site.containers()
    await asyncio.to_thread(container.stop, timeout=0)
    await site.eventually(one_running)
    await asyncio.to_thread(container.remove, force=True)
    (second,) = await site.eventually(one_running)
    assert second.id != first


async def test_an_update_keeps_the_name_and_the_port(site: Site) -> None:
    await site.agent.assign(site.wanted())
    first = await site.healthy()
    await site.agent.assign(site.wanted(site.newer, generation=2))
    await site.healthy(2)
    (container,) = await site.eventually(one_running)
    assert container.id != first
    assert container.name == site.wanted().container_name
    assert str(site.newer.image.manifest.digest) in container.attrs["Config"]["Image"]


@pytest.mark.parametrize(
    "broken",
    [
        dataclasses.replace(SERVER, command=("/does/not/exist",)),
        dataclasses.replace(SERVER, command=("/bin/false",)),
    ],
    ids=["cannot start", "does not stay up"],
)
async def test_an_update_that_cannot_run_brings_the_old_version_back(site: Site, broken: ContainerSpec) -> None:
    await site.agent.assign(site.wanted())
    first = await site.healthy()
    await site.agent.assign(site.wanted(generation=2, container=broken))
    report = await site.agent.until(INSTANCE, Phase.FAILED)
    assert report.generation == 2
    found = await site.eventually(lambda found: one_running(found) and found[0].id == first)
    assert found[0].id == first
    await site.agent.assign(site.wanted(generation=3))
    await site.healthy(3)


async def test_a_port_that_is_taken_is_said_and_tried_again(site: Site) -> None:
    def occupy() -> Container:
        with contextlib.closing(site.engine.client()) as client:
            return client.containers.run(
                IMAGE, ["sleep", "600"], detach=True, ports={"80/tcp": ("127.0.0.1", 18081)}, name="occupier"
            )

    occupier = await asyncio.to_thread(occupy)
    await site.agent.assign(site.wanted())
    report = await site.agent.until(INSTANCE, Phase.FAILED, 30)
    assert "port is already allocated" in report.detail
    await asyncio.to_thread(occupier.remove, force=True)
    await site.healthy()


async def test_while_containerd_is_dead_it_waits_and_goes_on(site: Site) -> None:
    pid = int((Path(site.engine.host.removeprefix("unix://")).parent / "exec/containerd/containerd.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    await site.agent.assign(site.wanted())
    await site.healthy()


async def test_a_container_of_somebody_else_is_adopted_as_it_is_and_given_back_to_nobody(site: Site) -> None:
    """Also over a restart of the agent's driver: its journal knows what Docker's labels cannot say."""

    def offer() -> str:
        with contextlib.closing(site.engine.client()) as client:
            images = [held for one in client.images.list() for held in one.attrs["RepoDigests"]]
            container = client.containers.create(
                next(held for held in images if held.endswith(str(site.image.image.manifest.digest))),
                ["/bin/sleep", "3600"],
                name="theirs",
                labels={LABEL_ADOPT: "acme/web", "com.docker.compose.project": "p"},
            )
            container.start()
            return str(container.id)

    def look(runtime_id: str) -> str | None:
        with contextlib.closing(site.engine.client()) as client:
            found = client.containers.list(all=True, filters={"id": runtime_id})
            return str(found[0].attrs["State"]["StartedAt"]) if found else None

    manifest = site.image.image.manifest.digest
    sleeper = ContainerSpec(command=("/bin/sleep", "3600"), stop_grace_seconds=1)
    other = assignment(site.image.image, DesiredState.HELD, instance_id=INSTANCE.replace("dead", "cafe"))
    await site.agent.assign(other)
    await site.agent.until(other.instance_id, Phase.VERIFIED)
    await site.agent.driver.pull("acme/web", manifest)
    theirs = await asyncio.to_thread(offer)
    since = await asyncio.to_thread(look, theirs)
    await site.agent.assign(other, site.wanted(container=sleeper))
    report = await site.agent.until(INSTANCE, Phase.RUNNING, 30)
    assert report.runtime_id == theirs
    assert await asyncio.to_thread(look, theirs) == since, "it was not started again"
    assert await site.containers(running_only=False) == [], "nothing was made beside it"
    await site.agent.assign(other)
    async with asyncio.timeout(20):
        while await asyncio.to_thread(look, theirs) is not None:  # noqa: ASYNC110  dockerd tells nobody
            await asyncio.sleep(0.1)
