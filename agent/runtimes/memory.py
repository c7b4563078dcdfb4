"""A container engine in memory: keeps the port's contract and runs nothing.

Several drivers may share one `MemoryEngine`, as several agents may share one dockerd. Containers that "crash" or are
"unhealthy" are made so by the test or simulation that owns the engine.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from agent.model import Container, ContainerState, Engine, Health
from agent.runtimes import (
    LABEL_GENERATION,
    LABEL_HOST,
    LABEL_INSTANCE,
    LABEL_SPEC,
    ContainerOrder,
    ContainerUnknown,
    EngineAway,
    EngineRefused,
    NotOurs,
    labels_of,
)
from common.digest import Digest


@dataclass(frozen=True, slots=True)
class MemoryContainer:
    """What the engine knows: an order, the labels made of it, and a state."""

    runtime_id: str
    order: ContainerOrder
    labels: dict[str, str]
    state: ContainerState = ContainerState.CREATED
    health: Health = Health.NONE
    exit_code: int = 0
    restart_count: int = 0
    starts: int = 0


@dataclass
class MemoryEngine:
    """`away`: every call fails as if the engine were hung. `refuse`: spec hashes that will not start.

    `crash`: spec hashes that exit as soon as they are started.
    """

    images: set[Digest] = field(default_factory=set)
    containers: dict[str, MemoryContainer] = field(default_factory=dict)
    away: bool = False
    refuse: set[str] = field(default_factory=set)
    crash: set[str] = field(default_factory=set)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def running(self, instance_id: str) -> list[MemoryContainer]:
        return [
            one
            for one in self.containers.values()
            if one.labels.get(LABEL_INSTANCE) == instance_id and one.state is ContainerState.RUNNING
        ]

    def kill_everything(self) -> None:
        """As after kill -9 and restart of an engine: all containers stand still."""
        for key, one in self.containers.items():
            if one.state is ContainerState.RUNNING:
                self.containers[key] = replace(one, state=ContainerState.EXITED, exit_code=137)


class MemoryRuntimeDriver:
    """See the module's docstring."""

    def __init__(self, engine: MemoryEngine, host_id: str) -> None:
        self._engine = engine
        self._host_id = host_id

    async def describe(self) -> Engine:
        self._reach()
        return Engine("memory", "1")

    async def containers(self) -> Sequence[Container]:
        self._reach()
        return [_shown(one) for one in self._engine.containers.values() if one.labels.get(LABEL_HOST) == self._host_id]

    async def images(self, wanted: Collection[Digest]) -> frozenset[Digest]:
        self._reach()
        return frozenset(self._engine.images & set(wanted))

    async def pull(self, repository: str, manifest: Digest) -> None:
        self._reach()
        self._engine.images.add(manifest)

    async def pull_ahead(self, repository: str, manifest: Digest) -> None:
        """There is nothing to unpack."""
        self._reach()

    async def create(self, order: ContainerOrder) -> str:
        self._reach()
        holder = next((one for one in self._engine.containers.values() if one.order.name == order.name), None)
        if holder is not None:
            same = holder.labels.get(LABEL_HOST), holder.labels.get(LABEL_INSTANCE), holder.labels.get(LABEL_SPEC)
            if same == (self._host_id, order.instance_id, order.spec_hash):
                return holder.runtime_id
            raise EngineRefused(f"another container has the name {order.name}", action="rename or remove it")
        if order.manifest not in self._engine.images:
            raise EngineRefused(f"the engine has no image {order.manifest}", action="pull it first")
        runtime_id = f"memory{next(self._engine.numbers):058d}"
        self._engine.containers[runtime_id] = MemoryContainer(runtime_id, order, dict(labels_of(order, self._host_id)))
        return runtime_id

    async def start(self, runtime_id: str) -> None:
        one = self._own(runtime_id)
        if one.state is ContainerState.RUNNING:
            return
        if one.order.spec_hash in self._engine.refuse:
            raise EngineRefused(f"container {one.order.name} does not start", action="change its specification")
        crashed = one.order.spec_hash in self._engine.crash
        self._put(
            replace(
                one,
                state=ContainerState.EXITED if crashed else ContainerState.RUNNING,
                exit_code=1 if crashed else 0,
                health=Health.HEALTHY if one.order.spec.health_check else Health.NONE,
                starts=one.starts + 1,
            )
        )

    async def stop(self, runtime_id: str, grace_seconds: int) -> None:
        one = self._own(runtime_id)
        if one.state is ContainerState.RUNNING:
            self._put(replace(one, state=ContainerState.EXITED, exit_code=143))

    async def restart(self, runtime_id: str, grace_seconds: int) -> None:
        await self.stop(runtime_id, grace_seconds)
        await self.start(runtime_id)

    async def rename(self, runtime_id: str, name: str) -> None:
        one = self._own(runtime_id)
        if any(other.order.name == name and other is not one for other in self._engine.containers.values()):
            raise EngineRefused(f"another container has the name {name}", action="rename or remove it")
        self._put(replace(one, order=replace(one.order, name=name)))

    async def remove(self, runtime_id: str) -> None:
        self._reach()
        if runtime_id in self._engine.containers:
            self._own(runtime_id)
            del self._engine.containers[runtime_id]

    async def close(self) -> None:
        return

    def _reach(self) -> None:
        if self._engine.away:
            raise EngineAway("the memory engine is switched off", retry_after_seconds=1)

    def _own(self, runtime_id: str) -> MemoryContainer:
        self._reach()
        one = self._engine.containers.get(runtime_id)
        if one is None:
            raise ContainerUnknown(f"there is no container {runtime_id}", action="look at the engine again")
        if one.labels.get(LABEL_HOST) != self._host_id:
            raise NotOurs(f"container {one.order.name} is not of this host's agent", action="leave it alone")
        return one

    def _put(self, one: MemoryContainer) -> None:
        self._engine.containers[one.runtime_id] = one


def _shown(one: MemoryContainer) -> Container:
    return Container(
        runtime_id=one.runtime_id,
        name=one.order.name,
        instance_id=one.labels.get(LABEL_INSTANCE, ""),
        generation=int(one.labels.get(LABEL_GENERATION, "0")),
        spec_hash=one.labels.get(LABEL_SPEC, ""),
        state=one.state,
        health=one.health,
        exit_code=one.exit_code,
        restart_count=one.restart_count,
        stop_grace_seconds=one.order.spec.stop_grace_seconds,
    )
