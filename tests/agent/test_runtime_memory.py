from __future__ import annotations

import pytest

from agent.model import ContainerState
from agent.runtimes import ContainerOrder
from agent.runtimes.memory import MemoryContainer, MemoryEngine, MemoryRuntimeDriver
from common.digest import Digest
from tests.conformance.runtime_driver import RuntimeDriverContract


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
        }


@pytest.fixture
def world() -> MemoryWorld:
    return MemoryWorld()


class TestMemoryRuntimeDriver(RuntimeDriverContract):
    pass
