"""A container engine in memory: keeps the port's contract and runs nothing.

Several drivers may share one `MemoryEngine`, as several agents may share one dockerd. Containers that "crash" or are
"unhealthy" are made so by the test or simulation that owns the engine.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from agent.model import LIVE_STATES, Container, ContainerState, Engine, Health
from agent.runtimes import (
    LABEL_ADOPT,
    LABEL_HOST,
    LABEL_INSTANCE,
    LABEL_MOVE,
    LABEL_SPEC,
    Adoption,
    Capabilities,
    ContainerOrder,
    ContainerUnknown,
    EngineAway,
    EngineRefused,
    ExecOrder,
    LogQuery,
    NotOurs,
    Piece,
    Sample,
    Session,
    Size,
    Snapshot,
    SnapshotUnknown,
    Stranger,
    labels_of,
)
from agent.runtimes.memory_archives import packed, unpacked
from agent.runtimes.memory_engine import MemoryContainer, MemoryEngine, described, shown
from agent.runtimes.memory_streams import KILLED, MemorySession, run
from common.digest import Digest

__all__ = ["MemoryContainer", "MemoryEngine", "MemoryRuntimeDriver"]


class MemoryRuntimeDriver:
    """See the module's docstring."""

    def __init__(self, engine: MemoryEngine, host_id: str) -> None:
        self._engine = engine
        self._host_id = host_id
        self._claims: dict[str, Adoption] = {}

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(console=True, snapshots=True, disk_limit=True, move=True)

    async def describe(self) -> Engine:
        self._reach()
        return Engine("memory", "1")

    async def containers(self) -> Sequence[Container]:
        self._reach()
        return [
            shown(one, None if LABEL_HOST in one.labels else self._claims.get(one.runtime_id))
            for one in self._engine.containers.values()
            if self._is_ours(one)
        ]

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
            raise _taken(order.name)
        if order.manifest not in self._engine.images:
            raise EngineRefused(f"the engine has no image {order.manifest}", action="pull it first")
        before = self._own(order.successor_of) if order.successor_of else None
        runtime_id = f"memory{next(self._engine.numbers):058d}"
        self._engine.containers[runtime_id] = MemoryContainer(
            runtime_id, order, labels_of(order, self._host_id), beyond=before.beyond if before else ()
        )
        return runtime_id

    async def start(self, runtime_id: str) -> None:
        one = self._own(runtime_id)
        if one.state in LIVE_STATES:
            return
        if one.order.spec_hash in self._engine.refuse:
            raise EngineRefused(f"container {one.order.name} does not start", action="change its specification")
        crashed = one.order.spec_hash in self._engine.crash
        self._engine.put(
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
        if one.state in LIVE_STATES:
            self._engine.put(replace(one, state=ContainerState.EXITED, exit_code=143))

    async def restart(self, runtime_id: str, grace_seconds: int) -> None:
        await self.stop(runtime_id, grace_seconds)
        await self.start(runtime_id)

    async def pause(self, runtime_id: str) -> None:
        one = self._own(runtime_id)
        if one.state is ContainerState.PAUSED:
            return
        self._engine.put(replace(self._live(one), state=ContainerState.PAUSED))

    async def resume(self, runtime_id: str) -> None:
        one = self._own(runtime_id)
        if one.state is ContainerState.PAUSED:
            self._engine.put(replace(one, state=ContainerState.RUNNING))
        else:
            self._live(one)

    async def rename(self, runtime_id: str, name: str) -> None:
        one = self._own(runtime_id)
        if any(other.order.name == name and other is not one for other in self._engine.containers.values()):
            raise _taken(name)
        self._engine.put(replace(one, order=replace(one.order, name=name)))

    async def remove(self, runtime_id: str) -> None:
        self._reach()
        if runtime_id in self._engine.containers:
            self._own(runtime_id)
            self._engine.forget(runtime_id)

    @contextlib.asynccontextmanager
    async def logs(self, runtime_id: str, query: LogQuery) -> AsyncIterator[AsyncIterator[Piece]]:
        one = self._own(runtime_id)
        log = self._engine.log(runtime_id)
        log.ended = one.state not in LIVE_STATES
        yield log.read(query)

    def execute(self, runtime_id: str, order: ExecOrder) -> AbstractAsyncContextManager[Session]:
        def begin(one: MemoryContainer) -> MemorySession:
            files = self._engine.files.setdefault(runtime_id, {})
            return run(order, one.order.spec.environment, files, self._reach)

        return self._session(runtime_id, begin)

    def console(self, runtime_id: str, size: Size) -> AbstractAsyncContextManager[Session]:
        order = ExecOrder(("cat",), terminal=size, input=True)
        return self._session(runtime_id, lambda _: run(order, {}, {}, self._reach))

    async def sample(self, runtime_id: str) -> Sample:
        one = self._own(runtime_id)
        if one.state not in LIVE_STATES:
            return Sample()
        usual = Sample(cpu_seconds=0.1, memory_bytes=1 << 20, processes=1)
        return replace(self._engine.samples.get(runtime_id, usual), memory_limit_bytes=one.order.spec.memory_bytes)

    async def snapshot(self, runtime_id: str, name: str) -> None:
        self._own(runtime_id)
        kept = self._engine.kept.setdefault(runtime_id, {})
        taken = Snapshot(name, created_ns=len(kept) + 1)
        kept.setdefault(name, (taken, dict(self._engine.files.get(runtime_id, {}))))

    async def snapshots(self, runtime_id: str) -> Sequence[Snapshot]:
        self._own(runtime_id)
        return [snapshot for snapshot, _ in self._engine.kept.get(runtime_id, {}).values()]

    async def restore(self, runtime_id: str, name: str) -> None:
        self._own(runtime_id)
        kept = self._engine.kept.get(runtime_id, {})
        if name not in kept:
            raise SnapshotUnknown(f"there is no snapshot {name}", action="list the snapshots")
        self._engine.files[runtime_id] = dict(kept[name][1])

    async def delete_snapshot(self, runtime_id: str, name: str) -> None:
        self._own(runtime_id)
        self._engine.kept.get(runtime_id, {}).pop(name, None)

    @contextlib.asynccontextmanager
    async def export(self, runtime_id: str, *, with_snapshots: bool = False) -> AsyncIterator[AsyncIterator[bytes]]:
        one = self._own(runtime_id)
        files = {"/etc/hostname": f"{one.order.name}\n".encode(), **self._engine.files.get(runtime_id, {})}
        kept = self._engine.kept.get(runtime_id, {}) if with_snapshots else {}
        yield packed(files, {name: held for name, (_, held) in kept.items()})

    async def take_in(self, order: ContainerOrder, move_id: str, archive: AsyncIterator[bytes]) -> str:
        for one in self._engine.containers.values():
            if one.labels.get(LABEL_INSTANCE) == order.instance_id:
                if (one.labels.get(LABEL_HOST), one.labels.get(LABEL_MOVE)) == (self._host_id, move_id):
                    return one.runtime_id
                raise EngineRefused("this engine has the instance already", action="choose another host")
        files, snapshots = await unpacked(archive)
        self._reach()
        runtime_id = f"memory{next(self._engine.numbers):058d}"
        labels = {**labels_of(order, self._host_id), LABEL_MOVE: move_id}
        taken = replace(order, name=f"{order.name}.{move_id}")
        self._engine.containers[runtime_id] = MemoryContainer(runtime_id, taken, labels)
        self._engine.files[runtime_id] = files
        self._engine.kept[runtime_id] = {
            name: (Snapshot(name, created_ns=number), kept) for number, (name, kept) in enumerate(snapshots.items(), 1)
        }
        return runtime_id

    async def clear_taken(self, keep: Callable[[], Collection[str]]) -> None:
        """Nothing is ever half done."""

    async def strangers(self, named: Collection[str] = ()) -> Sequence[Stranger]:
        self._reach()
        return [
            described(one)
            for one in self._engine.containers.values()
            if LABEL_HOST not in one.labels
            and one.runtime_id not in self._claims
            and (LABEL_ADOPT in one.labels or {one.runtime_id, one.order.name} & set(named))
        ]

    def claim(self, adoptions: Mapping[str, Adoption]) -> None:
        self._claims = dict(adoptions)

    async def close(self) -> None:
        return

    @contextlib.asynccontextmanager
    async def _session(
        self, runtime_id: str, begin: Callable[[MemoryContainer], MemorySession]
    ) -> AsyncIterator[Session]:
        session = begin(self._live(self._own(runtime_id)))
        sessions = self._engine.sessions.setdefault(runtime_id, [])
        sessions.append(session)
        try:
            yield session
        finally:
            session.end(KILLED)
            if session in sessions:
                sessions.remove(session)

    def _reach(self) -> None:
        if self._engine.away:
            raise EngineAway("the memory engine is switched off", retry_after_seconds=1)

    def _is_ours(self, one: MemoryContainer) -> bool:
        return one.labels.get(LABEL_HOST, self._host_id if one.runtime_id in self._claims else "") == self._host_id

    def _own(self, runtime_id: str) -> MemoryContainer:
        self._reach()
        one = self._engine.containers.get(runtime_id)
        if one is None:
            raise ContainerUnknown(f"there is no container {runtime_id}", action="look at the engine again")
        if not self._is_ours(one):
            raise NotOurs(f"container {one.order.name} is not of this host's agent", action="leave it alone")
        return one

    @staticmethod
    def _live(one: MemoryContainer) -> MemoryContainer:
        if one.state is not ContainerState.RUNNING:
            raise EngineRefused(f"container {one.order.name} does not run", action="start it first")
        return one


def _taken(name: str) -> EngineRefused:
    return EngineRefused(f"another container has the name {name}", action="rename or remove it")
