"""Port: the container engine of this host.

A driver sees and touches only containers that carry both our labels with this host's id; a call that names any other
object raises `NotOurs` and changes nothing, because several agents and many other programs may share one engine.
Addresses: a container by the engine's id, an image by the digest of its manifest (never by tag; what the engine calls
`RepoDigest`).

Every call may be repeated: starting what runs, stopping what stands, creating or removing what is created or removed
already, is a success. Duties under failure: an engine that is away, hung or half alive raises `EngineAway` (try again,
nothing is known to be wrong with the request) within the driver's deadline; a request that the engine understands and
will not carry out raises `EngineRefused` with the engine's own words. Nothing blocks the event loop.

Implementations: docker.py; memory.py (where there is no engine, and in simulations). The proof is
tests/conformance/runtime_driver.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent.model import Container, ContainerSpec, Engine
from common.digest import Digest
from common.errors import Conflict, Denied, NotFound, Unavailable

LABEL_INSTANCE = "longshore.instance"
LABEL_HOST = "longshore.host"
LABEL_GENERATION = "longshore.generation"
LABEL_SPEC = "longshore.spec"
LABEL_PREFIX = "longshore."


class EngineAway(Unavailable):
    code = "engine_away"


class EngineRefused(Conflict):
    code = "engine_refused"


class NotOurs(Denied):
    code = "container_not_ours"


class ContainerUnknown(NotFound):
    code = "container_unknown"


@dataclass(frozen=True, slots=True)
class ContainerOrder:
    """What to create. `name` is unique in the engine; the labels are how we know the container again."""

    name: str
    instance_id: str
    generation: int
    spec_hash: str
    manifest: Digest
    spec: ContainerSpec = field(default_factory=ContainerSpec)


def labels_of(order: ContainerOrder, host_id: str) -> Mapping[str, str]:
    """The tenant's labels under ours: a tenant cannot claim another host's or instance's container."""
    tenants = {key: value for key, value in order.spec.labels.items() if not key.startswith(LABEL_PREFIX)}
    return {
        **tenants,
        LABEL_INSTANCE: order.instance_id,
        LABEL_HOST: host_id,
        LABEL_GENERATION: str(order.generation),
        LABEL_SPEC: order.spec_hash,
    }


class RuntimeDriver(Protocol):
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
        holder of the name raises `EngineRefused`. `EngineRefused` too when the image is not there.
        """
        ...

    async def start(self, runtime_id: str) -> None: ...

    async def stop(self, runtime_id: str, grace_seconds: int) -> None:
        """Ask, wait `grace_seconds`, then kill."""
        ...

    async def restart(self, runtime_id: str, grace_seconds: int) -> None: ...

    async def rename(self, runtime_id: str, name: str) -> None: ...

    async def remove(self, runtime_id: str) -> None:
        """The container and its anonymous volumes, running or not; named volumes stay."""
        ...

    async def close(self) -> None: ...
