"""The LXD driver on a real LXD: the contract of all drivers, and what is LXD's own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pylxd.exceptions import LXDAPIException

from agent.model import ContainerSpec, ContainerState, PortMapping
from agent.runtimes import LABEL_ADOPT, Channel, EngineAway, EngineRefused, ExecOrder, LogQuery
from agent.runtimes.lxd import LxdRuntimeDriver
from agent.runtimes.lxd_images import alias_of
from agent.runtimes.lxd_init import command_in
from common.clock import SystemClock
from common.digest import Digest
from common.lifecycle import Lifecycle
from tests.agent.lxd_samples import LxdSample, split_sample, unified_sample
from tests.agent.samples import sample
from tests.conformance.runtime_driver import SLEEPER, RuntimeDriverContract, World, order, started, until
from tests.conformance.runtime_driver_adoption import AdoptionContract
from tests.conformance.runtime_driver_moves import MOVE, MoveContract, archive_of, chunks, standing
from tests.conformance.runtime_driver_states import CapabilityContract, PauseContract, SampleContract, SnapshotContract
from tests.conformance.runtime_driver_streams import (
    ExecContract,
    ExportContract,
    LogContract,
    lines,
    outcome,
    read_all,
)
from tests.engines.lxd import NETWORK, POOL, LxdEngine
from tests.engines.lxd_image import metadata_tarball, root_squashfs, root_tarball, unified_image
from tests.pace import BUSY_SECONDS


class LxdWorld:
    absent_manifest = Digest.of(b"no image")

    def __init__(self, engine: LxdEngine, image: LxdSample, lifecycle: Lifecycle) -> None:
        self.engine = engine
        self.image = image
        self.manifest = image.manifest
        self.lifecycle = lifecycle
        self.driver = self.make(str(engine.socket), "host-1")
        self.neighbour = self.make(str(engine.socket), "host-2")
        self.unreachable = self.make("/nowhere/unix.socket", "host-1")
        self.client = engine.client()

    def make(self, socket: str, host_id: str, **settings: Any) -> LxdRuntimeDriver:
        return LxdRuntimeDriver(socket, host_id, self.image.open_held, SystemClock(), self.lifecycle.spawn, **settings)

    async def foreign_container(self, name: str) -> str:
        await self.driver.pull("acme/system", self.manifest)
        return await asyncio.to_thread(self._make, name, {"raw.lxc": "lxc.init.cmd=/bin/sleep 600"}, {})

    async def foreign_is_running(self, runtime_id: str) -> bool:
        return (await asyncio.to_thread(self.instance, runtime_id))["status"] == "Running"

    async def offered_container(self, name: str, spec: ContainerSpec, labels: Mapping[str, str]) -> str:
        config = {
            "raw.lxc": f"lxc.init.cmd={' '.join(spec.command)}",
            "boot.autostart.priority": "7",
            "limits.memory": f"{spec.memory_bytes >> 20}MiB",
            **{f"environment.{key}": value for key, value in spec.environment.items()},
            **{f"user.{key}": value for key, value in labels.items()},
        }
        devices = {}
        for one in spec.mounts:
            with contextlib.suppress(LXDAPIException):
                self.client.api.storage_pools[POOL].volumes.custom.post(json={"name": one.volume})
            devices["data"] = {"type": "disk", "pool": POOL, "source": one.volume, "path": one.target}
        return await asyncio.to_thread(self._make, name, config, devices)

    def _make(self, name: str, config: Mapping[str, str], devices: Mapping[str, Mapping[str, str]]) -> str:
        body = {
            "name": name,
            "profiles": ["default"],
            "source": {"type": "image", "alias": alias_of(self.manifest)},
            "config": dict(config),
            "devices": dict(devices),
        }
        self.engine.wait(self.client, self.client.api.instances.post(json=body))
        start = {"action": "start", "timeout": 10, "force": True}
        self.engine.wait(self.client, self.client.api.instances[name].state.put(json=start))
        return str(self.client.api.instances[name].get().json()["metadata"]["config"]["volatile.uuid"])

    def instance(self, runtime_id: str) -> dict[str, Any]:
        listed = self.client.api.instances.get(params={"recursion": 1}).json()["metadata"]
        (found,) = [one for one in listed if one["config"]["volatile.uuid"] == runtime_id]
        return dict(found)

    async def kept_beyond(self, runtime_id: str) -> bool:
        instance = await asyncio.to_thread(self.instance, runtime_id)
        config = instance["config"]
        found = {
            "priority": config.get("boot.autostart.priority") == "7",
            "environment": config.get("environment.COLOUR") == "red",
            "labels": config.get("user.team") == "blue" and f"user.{LABEL_ADOPT}" not in config,
            "memory": config.get("limits.memory") == "64MiB",
            "volumes": instance["devices"]["data"]["source"] == "longshore-test-data",
        }
        assert all(found.values()), found
        return True

    async def speak(self, runtime_id: str, channel: Channel, text: str) -> None:
        assert (await outcome(self.driver, runtime_id, "sh", "-c", f"echo {text} > /dev/console"))[0] == 0

    async def commands(self, runtime_id: str) -> str:
        return (await outcome(self.driver, runtime_id, "ps"))[1].decode()

    async def forget_image(self) -> None:
        for fingerprint in await asyncio.to_thread(self.images):
            self.engine.wait(self.client, self.client.api.images[fingerprint].delete())

    def images(self) -> list[str]:
        return [str(path).rpartition("/")[2] for path in self.client.api.images.get().json()["metadata"]]

    async def details(self, runtime_id: str) -> dict[str, object]:
        instance = await asyncio.to_thread(self.instance, runtime_id)
        config, devices = instance["config"], instance["devices"].values()
        raw = config.get("raw.lxc", "")
        set_empty = [line.partition("=")[2].rstrip("=") for line in raw.splitlines() if "lxc.environment" in line]
        named = {key.removeprefix("environment."): value for key, value in config.items() if "environment." in key}
        proxies = [one for one in devices if one["type"] == "proxy"]
        return {
            "environment": {**named, **dict.fromkeys(set_empty, "")},
            "labels": {key.removeprefix("user."): value for key, value in config.items() if key.startswith("user.")},
            "ports": {
                f"{one['connect'].split(':')[2]}/{one['connect'].split(':')[0]}": one["listen"].split(":")[1]
                for one in proxies
            },
            "mounts": {
                one["path"]: (one["source"], one.get("readonly") == "true") for one in devices if one["type"] == "disk"
            },
            "cpus": _cpus(config.get("limits.cpu.allowance", "")),
            "memory_bytes": int(config.get("limits.memory", "0B").removesuffix("B")),
            "command": list(command_in(raw)),
            "privileged": config.get("security.privileged") == "true",
            "disk_bytes": 0,
        }

    async def close(self) -> None:
        for driver in (self.driver, self.neighbour, self.unreachable):
            await driver.close()


def _cpus(allowance: str) -> float:
    quota, _, period = allowance.replace("ms", "").partition("/")
    return int(quota) / int(period) if quota else 0.0


@pytest.fixture
def lxd_image() -> LxdSample:
    return unified_sample(unified_image())


@pytest.fixture
async def world(lxd_engine: LxdEngine, lxd_image: LxdSample) -> AsyncIterator[LxdWorld]:
    async with Lifecycle() as lifecycle:
        world = LxdWorld(lxd_engine, lxd_image, lifecycle)
        try:
            yield world
        finally:
            await world.close()


pytestmark = pytest.mark.engine("lxd")


class TestLxdRuntimeDriver(RuntimeDriverContract):
    pass


class TestLxdExec(ExecContract):
    pass


class TestLxdLogs(LogContract):
    """A console has neither times nor a second channel."""

    async def test_logs_are_read_in_order_with_their_channel_and_time(self, world: World) -> None:
        runtime_id = await started(world)
        spoken = [(Channel.OUTPUT, text) for text in ("one", "two", "three")]
        for channel, text in spoken:
            await world.speak(runtime_id, channel, text)
        await self._until_lines(world, runtime_id, 3)
        assert await lines(world.driver, runtime_id, LogQuery()) == spoken
        assert await lines(world.driver, runtime_id, LogQuery(tail=2)) == spoken[1:]
        assert await lines(world.driver, runtime_id, LogQuery(tail=0)) == []
        assert await lines(world.driver, runtime_id, LogQuery(output=False)) == []


class TestLxdExport(ExportContract):
    pass


class TestLxdPause(PauseContract):
    pass


class TestLxdSample(SampleContract):
    pass


class TestLxdSnapshots(SnapshotContract):
    pass


class TestLxdMoves(MoveContract):
    async def test_what_another_host_let_it_reach_is_not_taken_over(self, world: LxdWorld) -> None:
        wanted, runtime_id = await standing(world)
        theirs = await asyncio.to_thread(self._loosened, world, runtime_id)
        archive = await archive_of(world.driver, runtime_id)
        await world.driver.remove(runtime_id)
        taken = await world.neighbour.take_in(wanted, MOVE, chunks(archive))
        found = await asyncio.to_thread(world.instance, taken)
        assert not {"security.privileged", "user.theirs"} & found["config"].keys()
        assert not set(theirs) & found["devices"].keys()
        await world.neighbour.restore(taken, "loosened")
        found = await asyncio.to_thread(world.instance, taken)
        assert "security.privileged" not in found["config"]
        assert not set(theirs) & found["devices"].keys()

    @staticmethod
    def _loosened(world: LxdWorld, runtime_id: str) -> list[str]:
        """Its names of the devices that a host gave it beyond its specification, also in a snapshot."""
        name = world.instance(runtime_id)["name"]
        found = world.client.instances.get(name)
        found.config |= {"security.privileged": "true", "user.theirs": "x"}
        found.devices["theirs"] = {"type": "disk", "source": "/etc", "path": "/host-etc"}
        found.save(wait=True)
        found.snapshots.create("loosened", stateful=False, wait=True)
        return ["theirs"]


class TestLxdCapabilities(CapabilityContract):
    pass


class TestLxdAdoption(AdoptionContract):
    pass


async def test_a_hung_lxd_is_said_to_be_away_within_the_deadline(world: LxdWorld) -> None:
    driver = world.make(str(world.engine.socket), "host-1", question_seconds=1)
    await driver.describe()
    world.engine.pause()
    async with asyncio.timeout(BUSY_SECONDS):
        with pytest.raises(EngineAway):
            await driver.containers()
    world.engine.resume()
    assert await driver.containers() == []
    await driver.close()


async def test_instances_run_on_while_lxd_is_killed_and_are_found_again(world: LxdWorld) -> None:
    runtime_id = await started(world)
    world.engine.kill()
    with pytest.raises(EngineAway):
        await world.driver.containers()
    world.engine.start()
    (container,) = await world.driver.containers()
    assert container.runtime_id == runtime_id
    assert (await outcome(world.driver, runtime_id, "true"))[0] == 0


async def test_an_instance_that_lxd_was_killed_over_is_unfinished_and_can_be_made_again(world: LxdWorld) -> None:
    """The row is there and the disk is not; LXD refuses to start it for ever."""
    await world.driver.pull("acme/system", world.manifest)
    wanted = order(world)
    runtime_id = await world.driver.create(wanted)
    name = world.instance(runtime_id)["name"]
    world.client.api.instances[name].patch(json={"config": {"user.longshore.unfinished": "true"}})
    (world.engine.state / "containers" / name).unlink()
    (container,) = await world.driver.containers()
    assert container.unfinished
    await world.driver.remove(runtime_id)
    assert await world.driver.containers() == []
    await world.driver.start(await world.driver.create(wanted))
    (container,) = await world.driver.containers()
    assert (container.state, container.unfinished) == (ContainerState.RUNNING, False)


async def test_after_a_reboot_of_the_host_an_instance_can_be_started(world: LxdWorld) -> None:
    runtime_id = await started(world)
    world.engine.reboot()
    world.engine.start()
    await world.driver.start(runtime_id)
    assert (await outcome(world.driver, runtime_id, "true"))[0] == 0


async def test_an_image_runs_its_own_init_unless_told_otherwise(world: LxdWorld) -> None:
    own = await started(world, spec=dataclasses.replace(SLEEPER, command=()))
    assert "/sbin/init" in await world.commands(own)


async def test_split_images_are_imported_and_one_image_may_have_several_manifests(
    world: LxdWorld, tmp_path: Path
) -> None:
    metadata, root = metadata_tarball(), root_tarball()
    squashed = split_sample(metadata, root_squashfs(tmp_path), squashfs=True)
    first, second = split_sample(metadata, root), split_sample(metadata, root, properties={"os": "another name"})
    for image in (squashed, first, second):
        world.image.bytes_of.update(image.bytes_of)
        await world.driver.pull("acme/system", image.manifest)
        runtime_id = await world.driver.create(order(world, manifest=image.manifest))
        await world.driver.start(runtime_id)
        assert (await outcome(world.driver, runtime_id, "true"))[0] == 0
    assert len(await asyncio.to_thread(world.images)) == 2
    assert await world.driver.images([squashed.manifest, first.manifest, second.manifest]) == {
        squashed.manifest,
        first.manifest,
        second.manifest,
    }


async def test_contents_that_make_no_image_are_refused_and_leave_nothing(world: LxdWorld) -> None:
    broken = split_sample(b"no metadata", b"no root")
    ordinary = sample(b"layer")
    world.image.bytes_of.update({**broken.bytes_of, **ordinary.bytes_of})
    for manifest in (broken.manifest, ordinary.image.manifest.digest, Digest.of(b"not held")):
        with pytest.raises(EngineRefused):
            await world.driver.pull("acme/system", manifest)
    assert await asyncio.to_thread(world.images) == []


async def test_an_instance_has_the_network_that_was_asked_for_and_its_port_is_published(world: LxdWorld) -> None:
    bridged = await started(world, spec=dataclasses.replace(SLEEPER, ports=(PortMapping("", 0, 8080),)))
    assert b"eth0" in (await outcome(world.driver, bridged, "ip", "link"))[1]
    alone = await started(world, spec=dataclasses.replace(SLEEPER, network="none"))
    assert b"eth0" not in (await outcome(world.driver, alone, "ip", "link"))[1]
    named = await started(world, spec=dataclasses.replace(SLEEPER, network=NETWORK))
    assert b"eth0" in (await outcome(world.driver, named, "ip", "link"))[1]
    with pytest.raises(EngineRefused, match="nowhere"):
        await world.driver.create(order(world, spec=dataclasses.replace(SLEEPER, network="nowhere")))

    argv = ("sh", "-c", "while :; do echo from inside | nc -l -p 8080; done")
    proxy = (await asyncio.to_thread(world.instance, bridged))["devices"]["longshore-port-0"]
    port = proxy["listen"].rpartition(":")[2]
    ask = [*world.engine.command_prefix, "/bin/busybox", "nc", "127.0.0.1", port]
    async with asyncio.timeout(20), world.driver.execute(bridged, ExecOrder(argv)):

        async def answered() -> bool:
            done = await asyncio.to_thread(
                subprocess.run, ask, stdin=subprocess.DEVNULL, capture_output=True, timeout=5, check=False
            )
            return bool(done.stdout == b"from inside\n")

        await until(answered)


async def test_the_first_process_is_what_was_asked_for_to_the_letter(world: LxdWorld) -> None:
    argv = ("/bin/sleep", "3600", "$HOME;=*[1]")
    spec = dataclasses.replace(
        SLEEPER, command=argv, hostname="my-host", environment={"EMPTY": ""}, user="65534:65534", working_dir="/tmp"
    )
    runtime_id = await started(world, spec=dataclasses.replace(spec, command=argv[:2]))
    assert (await outcome(world.driver, runtime_id, "cat", "/proc/1/cmdline"))[1] == b"/bin/sleep\x003600\x00"
    assert b"EMPTY=\x00" in (await outcome(world.driver, runtime_id, "cat", "/proc/1/environ"))[1]
    assert b"Uid:\t65534\t" in (await outcome(world.driver, runtime_id, "cat", "/proc/1/status"))[1]
    assert (await outcome(world.driver, runtime_id, "readlink", "/proc/1/cwd"))[1] == b"/tmp\n"
    assert (await outcome(world.driver, runtime_id, "hostname"))[1] == b"my-host\n"
    details = await world.details(await world.driver.create(order(world, spec=spec)))
    assert details["command"] == list(argv)


async def test_users_are_found_by_name(world: LxdWorld) -> None:
    runtime_id = await started(world)
    assert (await outcome(world.driver, runtime_id, "id", "-u", user="nobody"))[1] == b"65534\n"
    with pytest.raises(EngineRefused, match="no user"):
        await outcome(world.driver, runtime_id, "id", user="somebody")


async def test_what_an_interrupted_export_left_is_removed_by_the_next(world: LxdWorld) -> None:
    runtime_id = await started(world)
    name = (await asyncio.to_thread(world.instance, runtime_id))["name"]
    backups = world.client.api.instances[name].backups
    world.engine.wait(world.client, backups.post(json={"name": "longshore-left", "instance_only": True}))
    async with world.driver.export(runtime_id) as chunks:
        assert len(backups.get().json()["metadata"]) == 1
        async for _ in chunks:
            break
    assert backups.get().json()["metadata"] == []


async def test_a_running_instance_is_not_renamed(world: LxdWorld) -> None:
    runtime_id = await started(world)
    with pytest.raises(EngineRefused):
        await world.driver.rename(runtime_id, "another-name")


async def test_a_profile_without_a_root_disk_will_do(world: LxdWorld) -> None:
    with contextlib.suppress(LXDAPIException):
        world.client.api.profiles.post(json={"name": "bare", "devices": {}, "config": {}})
    driver = world.make(str(world.engine.socket), "host-1", profile="bare")
    await driver.pull("acme/system", world.manifest)
    runtime_id = await driver.create(order(world))
    await driver.start(runtime_id)
    assert b"eth0" not in (await outcome(driver, runtime_id, "ip", "link"))[1]
    absent = world.make(str(world.engine.socket), "host-1", profile="absent")
    with pytest.raises(EngineRefused, match="absent"):
        await absent.create(order(world))
    await driver.close()
    await absent.close()


async def test_who_watches_a_command_is_told_that_lxd_was_lost(world: LxdWorld) -> None:
    runtime_id = await started(world)
    async with asyncio.timeout(20), world.driver.execute(runtime_id, ExecOrder(("sleep", "4321"))) as session:
        world.engine.kill()
        with contextlib.suppress(EngineAway):
            await read_all(session)
        with pytest.raises(EngineAway):
            await session.exit_code()
    world.engine.start()
