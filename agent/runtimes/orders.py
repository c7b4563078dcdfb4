"""What is asked of a container engine and what it answers, whatever engine it is: orders, labels, capabilities,
samples, snapshots, and containers that are not ours (yet); pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.model import ContainerSpec, ContainerState
from common.digest import Digest

LABEL_INSTANCE = "longshore.instance"
LABEL_HOST = "longshore.host"
LABEL_GENERATION = "longshore.generation"
LABEL_SPEC = "longshore.spec"
LABEL_ADOPTED = "longshore.adopted"
LABEL_ADOPT = "longshore.adopt"  # set by people on a container of theirs: "<tenant>/<instance>" may have it
LABEL_MOVE = "longshore.move"  # by which it came from another host
LABEL_PREFIX = "longshore."


@dataclass(frozen=True, slots=True)
class ContainerOrder:
    """What to create. `name` is unique in the engine; the labels are how we know the container again.

    successor_of: engine id of a container of ours whose settings that no specification names (further networks and
    their addresses, devices, capabilities, ...) the new one takes over; empty: none.
    """

    name: str
    instance_id: str
    generation: int
    spec_hash: str
    manifest: Digest
    spec: ContainerSpec = field(default_factory=ContainerSpec)
    successor_of: str = ""


def labels_of(order: ContainerOrder, host_id: str) -> Mapping[str, str]:
    """The tenant's labels under ours: a tenant cannot claim another host's or instance's container."""
    tenants = {key: value for key, value in order.spec.labels.items() if not key.startswith(LABEL_PREFIX)}
    return {
        **tenants,
        LABEL_INSTANCE: order.instance_id,
        LABEL_HOST: host_id,
        LABEL_GENERATION: str(order.generation),
        LABEL_SPEC: order.spec_hash,
        **({LABEL_ADOPTED: "true"} if order.successor_of else {}),
    }


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do at all. Asking for what it cannot raises `EngineCannot` and changes nothing.

    move: it takes in what another host exports.
    disk_limit: `ContainerSpec.disk_bytes` is enforced. network: `ContainerSpec.network` is taken.
    """

    pause: bool = True
    exec: bool = True
    logs: bool = True
    console: bool = False
    stats: bool = True
    export: bool = True
    snapshots: bool = False
    disk_limit: bool = False
    network: bool = True
    adoption: bool = True
    move: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at what a running container uses. Counters grow from its start; 0 where the engine does not say.

    memory_limit_bytes: 0 is unlimited.
    """

    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    processes: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`created_ns`: since 1970. `size_bytes`: 0 where the engine does not say."""

    name: str
    created_ns: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Adoption:
    """A container that others made and that counts as ours from now on, without labels of ours.

    spec_hash: of the specification that it fits; of none, if it was adopted in order to be replaced.
    """

    instance_id: str
    generation: int
    spec_hash: str


@dataclass(frozen=True, slots=True)
class Stranger:
    """A container that no agent owns, described so that it can be judged whether it fits a specification.

    manifests: digests by which the engine knows its image; empty if it was built or loaded on this host.
    spec: its settings in our words, without what it has from its image.
    beyond: settings in its engine's words that a specification cannot say; a container made anew loses them unless it
        is made as its successor.
    """

    runtime_id: str
    name: str
    state: ContainerState
    manifests: frozenset[Digest] = frozenset()
    spec: ContainerSpec = field(default_factory=ContainerSpec)
    labels: Mapping[str, str] = field(default_factory=dict)
    beyond: tuple[str, ...] = ()
