"""Port: the container engine of this host.

A driver sees and touches only containers that carry both our labels with this host's id, and those that `claim` named;
a call that names any other object raises `NotOurs` and changes nothing, because several agents and many other programs
may share one engine. Addresses: a container by the engine's id, an image by the digest of its manifest (never by tag;
what the engine calls `RepoDigest`).

Every call may be repeated: starting what runs, stopping what stands, creating or removing what is created or removed
already, is a success. Duties under failure: an engine that is away, hung or half alive raises `EngineAway` (try again,
nothing is known to be wrong with the request) within the driver's deadline; a request that the engine understands and
will not carry out raises `EngineRefused` with the engine's own words; what it cannot do at all, `EngineCannot`. Nothing
blocks the event loop, and a stream that is left holds no thread, socket or process any more.

Implementations: docker.py; memory.py (where there is no engine, and in simulations). The proof is
tests/conformance/runtime_driver*.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from agent.model import Container, Engine
from agent.runtimes.failures import (
    ContainerUnknown,
    EngineAway,
    EngineCannot,
    EngineRefused,
    NotOurs,
    SnapshotUnknown,
)
from agent.runtimes.orders import (
    LABEL_ADOPT,
    LABEL_ADOPTED,
    LABEL_GENERATION,
    LABEL_HOST,
    LABEL_INSTANCE,
    LABEL_MOVE,
    LABEL_PREFIX,
    LABEL_SPEC,
    Adoption,
    Capabilities,
    ContainerOrder,
    Sample,
    Snapshot,
    Stranger,
    labels_of,
)
from agent.runtimes.streams import Channel, ExecOrder, LogQuery, Piece, Session, Size
from common.digest import Digest

__all__ = [
    "LABEL_ADOPT",
    "LABEL_ADOPTED",
    "LABEL_GENERATION",
    "LABEL_HOST",
    "LABEL_INSTANCE",
    "LABEL_MOVE",
    "LABEL_PREFIX",
    "LABEL_SPEC",
    "Adoption",
    "Capabilities",
    "Channel",
    "ContainerOrder",
    "ContainerUnknown",
    "EngineAway",
    "EngineCannot",
    "EngineRefused",
    "ExecOrder",
    "LogQuery",
    "NotOurs",
    "Piece",
    "RuntimeDriver",
    "Sample",
    "Session",
    "Size",
    "Snapshot",
    "SnapshotUnknown",
    "Stranger",
    "labels_of",
]


class RuntimeDriver(Protocol):
    @property
    def capabilities(self) -> Capabilities: ...

    async def describe(self) -> Engine:
        """Kind and version; raises `EngineAway`."""
        ...

    async def containers(self) -> Sequence[Container]:
        """Ours, running or not."""
        ...

    async def images(self, wanted: Collection[Digest]) -> frozenset[Digest]:
        """Which of these manifests the engine holds an image of."""
        ...

    async def pull(self, repository: str, manifest: Digest) -> None:
        """From the agent's mirror; verified by digest afterwards."""
        ...

    async def pull_ahead(self, repository: str, manifest: Digest) -> None:
        """The same while contents still arrive at the mirror: it lasts as long as they take. Cancelling it ends the
        engine's part too, soon. A driver may do nothing, and leave all to `pull`.
        """
        ...

    async def create(self, order: ContainerOrder) -> str:
        """The engine's id. A container of that name which is ours and of that spec is the answer itself; any other
        holder of the name raises `EngineRefused`. `EngineRefused` too when the image is not there, `EngineCannot` when
        the spec asks for what the engine cannot do.
        """
        ...

    async def start(self, runtime_id: str) -> None:
        """One that is paused stays so."""
        ...

    async def stop(self, runtime_id: str, grace_seconds: int) -> None:
        """Ask, wait `grace_seconds`, then kill; one that is paused goes on first."""
        ...

    async def restart(self, runtime_id: str, grace_seconds: int) -> None: ...

    async def pause(self, runtime_id: str) -> None:
        """Its processes stand still with all they hold. `EngineRefused` unless it runs."""
        ...

    async def resume(self, runtime_id: str) -> None: ...

    async def rename(self, runtime_id: str, name: str) -> None: ...

    async def remove(self, runtime_id: str) -> None:
        """The container and its anonymous volumes, running or not; named volumes stay. Of a claimed container its
        anonymous volumes stay too: its successor may have taken them over.
        """
        ...

    def logs(self, runtime_id: str, query: LogQuery) -> AbstractAsyncContextManager[AsyncIterator[Piece]]:
        """Oldest first. The iterator ends with the container if it follows, else with what there is now."""
        ...

    def execute(self, runtime_id: str, order: ExecOrder) -> AbstractAsyncContextManager[Session]:
        """Run a command inside. Leaving the context kills it and what it started, if they still run. `EngineRefused`
        when the container does not run or has no such command (an engine may also say the latter with exit code 126 or
        127).
        """
        ...

    def console(self, runtime_id: str, size: Size) -> AbstractAsyncContextManager[Session]:
        """The container's own console, of engines that give it one. Leaving the context leaves the container alone."""
        ...

    async def sample(self, runtime_id: str) -> Sample:
        """What it uses. Of one that does not run everything is 0."""
        ...

    async def snapshot(self, runtime_id: str, name: str) -> None:
        """One of that name that is there already is the answer itself."""
        ...

    async def snapshots(self, runtime_id: str) -> Sequence[Snapshot]:
        """Oldest first."""
        ...

    async def restore(self, runtime_id: str, name: str) -> None:
        """Its disk as it was; it may stand afterwards, though it ran. Raises `SnapshotUnknown`."""
        ...

    async def delete_snapshot(self, runtime_id: str, name: str) -> None: ...

    def export(
        self, runtime_id: str, *, with_snapshots: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """A tar archive: of a Docker container its file system, of an LXD instance its backup."""
        ...

    async def take_in(self, order: ContainerOrder, move_id: str, archive: AsyncIterator[bytes]) -> str:
        """Make of another host's export what stood there, snapshots included: standing, marked with the move, under a
        name that is not yet `order.name`. The engine's id; the answer too if the move was taken in already. What
        `archive` raises is raised, and nothing of it is taken. `EngineRefused` if it is none, or if the engine has the
        instance already because both hosts share it.
        """
        ...

    async def clear_taken(self, keep: Callable[[], Collection[str]]) -> None:
        """Remove what attempts to take in moves other than `keep()` left half done; asked after the engine was looked
        at, so that a move which begins meanwhile loses nothing.
        """
        ...

    async def strangers(self, named: Collection[str] = ()) -> Sequence[Stranger]:
        """Containers of nobody (neither this nor another agent's) that invite adoption by the label `LABEL_ADOPT`, and
        those that `named` names by engine id or name.
        """
        ...

    def claim(self, adoptions: Mapping[str, Adoption]) -> None:
        """From now on these containers too, by engine id, are ours, and no others without our labels. Another agent's
        stays another agent's.
        """
        ...

    async def close(self) -> None: ...
