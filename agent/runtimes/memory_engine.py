"""The container engine in memory itself: what it holds, shared by the drivers of several hosts, and how tests and
simulations make it misbehave.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent.model import Container, ContainerState, Health
from agent.runtimes.memory_streams import KILLED, MemoryLog, MemorySession
from agent.runtimes.orders import (
    LABEL_ADOPTED,
    LABEL_GENERATION,
    LABEL_INSTANCE,
    LABEL_MOVE,
    LABEL_SPEC,
    Adoption,
    ContainerOrder,
    Sample,
    Snapshot,
    Stranger,
)
from agent.runtimes.streams import Channel
from common.digest import Digest


@dataclass(frozen=True, slots=True)
class MemoryContainer:
    """What the engine knows: an order, the labels made of it, and a state. `beyond`: settings of no specification."""

    runtime_id: str
    order: ContainerOrder
    labels: Mapping[str, str]
    state: ContainerState = ContainerState.CREATED
    health: Health = Health.NONE
    exit_code: int = 0
    restart_count: int = 0
    starts: int = 0
    beyond: tuple[str, ...] = ()


@dataclass
class MemoryEngine:
    """`away`: every call fails as if the engine were hung. `refuse`: spec hashes that will not start.

    crash: spec hashes that exit as soon as they are started. samples: what containers are said to use.
    """

    images: set[Digest] = field(default_factory=set)
    containers: dict[str, MemoryContainer] = field(default_factory=dict)
    away: bool = False
    refuse: set[str] = field(default_factory=set)
    crash: set[str] = field(default_factory=set)
    samples: dict[str, Sample] = field(default_factory=dict)
    logs: dict[str, MemoryLog] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    kept: dict[str, dict[str, tuple[Snapshot, dict[str, bytes]]]] = field(default_factory=dict)
    sessions: dict[str, list[MemorySession]] = field(default_factory=dict)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def running(self, instance_id: str) -> list[MemoryContainer]:
        return [
            one
            for one in self.containers.values()
            if one.labels.get(LABEL_INSTANCE) == instance_id and one.state is ContainerState.RUNNING
        ]

    def kill_everything(self) -> None:
        """As after kill -9 and restart of an engine: all containers stand still."""
        for one in list(self.containers.values()):
            if one.state in (ContainerState.RUNNING, ContainerState.PAUSED):
                self.put(replace(one, state=ContainerState.EXITED, exit_code=KILLED))

    def say(self, runtime_id: str, text: str, channel: Channel = Channel.OUTPUT) -> None:
        """The container writes one line."""
        self.log(runtime_id).write(f"{text}\n".encode(), channel)

    def log(self, runtime_id: str) -> MemoryLog:
        return self.logs.setdefault(runtime_id, MemoryLog())

    def put(self, one: MemoryContainer) -> None:
        self.containers[one.runtime_id] = one
        runs = one.state in (ContainerState.RUNNING, ContainerState.PAUSED)
        if not runs:
            self._end_sessions(one.runtime_id)
        if (log := self.logs.get(one.runtime_id)) is not None:
            log.end(ended=not runs)

    def forget(self, runtime_id: str) -> None:
        self._end_sessions(runtime_id)
        if (log := self.logs.pop(runtime_id, None)) is not None:
            log.end()
        del self.containers[runtime_id]
        for table in (self.samples, self.files, self.kept):
            table.pop(runtime_id, None)

    def _end_sessions(self, runtime_id: str) -> None:
        for session in self.sessions.pop(runtime_id, ()):
            session.end(KILLED)


def shown(one: MemoryContainer, adoption: Adoption | None) -> Container:
    return Container(
        runtime_id=one.runtime_id,
        name=one.order.name,
        instance_id=adoption.instance_id if adoption else one.labels.get(LABEL_INSTANCE, ""),
        generation=adoption.generation if adoption else int(one.labels.get(LABEL_GENERATION, "0")),
        spec_hash=adoption.spec_hash if adoption else one.labels.get(LABEL_SPEC, ""),
        state=one.state,
        health=one.health,
        exit_code=one.exit_code,
        restart_count=one.restart_count,
        stop_grace_seconds=one.order.spec.stop_grace_seconds,
        adopted=adoption is not None or LABEL_ADOPTED in one.labels,
        move=one.labels.get(LABEL_MOVE, ""),
    )


def described(one: MemoryContainer) -> Stranger:
    return Stranger(
        runtime_id=one.runtime_id,
        name=one.order.name,
        state=one.state,
        manifests=frozenset({one.order.manifest}),
        spec=one.order.spec,
        labels=dict(one.labels),
        beyond=one.beyond,
    )
