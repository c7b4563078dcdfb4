from __future__ import annotations

from collections.abc import Mapping

import pytest

from agent.model import ContainerSpec, ContainerState
from agent.runtimes import Channel, ContainerOrder
from agent.runtimes.memory import MemoryContainer, MemoryEngine, MemoryRuntimeDriver
from common.digest import Digest
from tests.conformance.runtime_driver import RuntimeDriverContract
from tests.conformance.runtime_driver_adoption import AdoptionContract
from tests.conformance.runtime_driver_moves import MoveContract
from tests.conformance.runtime_driver_states import (
    CapabilityContract,
    PauseContract,
    SampleContract,
    SnapshotContract,
)
from tests.conformance.runtime_driver_streams import ExecContract, ExportContract, LogContract


class MemoryWorld:
    manifest = Digest.of(b"an image")
    absent_manifest = Digest.of(b"no image")

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.driver = MemoryRuntimeDriver(self.engine, "host-1")
        self.neighbour = MemoryRuntimeDriver(self.engine, "host-2")
        self.unreachable = MemoryRuntimeDriver(MemoryEngine(away=True), "host-1")

    async def foreign_container(self, name: str) -> str:
        order = ContainerOrder(name, "", 0, "", self.manifest)
        self.engine.containers[name] = MemoryContainer(name, order, {}, ContainerState.RUNNING)
        return name

    async def foreign_is_running(self, runtime_id: str) -> bool:
        return self.engine.containers[runtime_id].state is ContainerState.RUNNING

    async def offered_container(self, name: str, spec: ContainerSpec, labels: Mapping[str, str]) -> str:
        order = ContainerOrder(name, "", 0, "", self.manifest, spec)
        self.engine.put(MemoryContainer(name, order, labels, ContainerState.RUNNING, beyond=("CapAdd",)))
        return name

    async def kept_beyond(self, runtime_id: str) -> bool:
        return self.engine.containers[runtime_id].beyond == ("CapAdd",)

    async def speak(self, runtime_id: str, channel: Channel, text: str) -> None:
        self.engine.say(runtime_id, text, channel)

    async def commands(self, runtime_id: str) -> str:
        argv = self.engine.containers[runtime_id].order.spec.command
        return str([argv, *(session.order.argv for session in self.engine.sessions.get(runtime_id, ()))])

    async def forget_image(self) -> None:
        self.engine.images.clear()

    async def details(self, runtime_id: str) -> dict[str, object]:
        one = self.engine.containers[runtime_id]
        spec = one.order.spec
        return {
            "environment": dict(spec.environment),
            "labels": one.labels,
            "ports": {f"{port.container_port}/{port.protocol}": port.host_ip or "127.0.0.1" for port in spec.ports},
            "mounts": {mount.target: (mount.volume, mount.read_only) for mount in spec.mounts},
            "cpus": spec.cpus,
            "memory_bytes": spec.memory_bytes,
            "command": list(spec.command),
            "privileged": False,
            "disk_bytes": spec.disk_bytes,
        }


@pytest.fixture
def world() -> MemoryWorld:
    return MemoryWorld()


class TestMemoryRuntimeDriver(RuntimeDriverContract):
    pass


class TestMemoryExec(ExecContract):
    pass


class TestMemoryLogs(LogContract):
    pass


class TestMemoryExport(ExportContract):
    pass


class TestMemoryPause(PauseContract):
    pass


class TestMemorySample(SampleContract):
    pass


class TestMemorySnapshots(SnapshotContract):
    pass


class TestMemoryMoves(MoveContract):
    pass


class TestMemoryCapabilities(CapabilityContract):
    pass


class TestMemoryAdoption(AdoptionContract):
    pass
