"""What a host is asked to run and what it sees of itself; frozen, pure, independent of wire and engine.

Invariant: an `Assignment` that exists is well formed (digests parsed, ports in range); converting from the wire is
`agent/wire.py`'s business.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from common.digest import Digest


class DesiredState(enum.Enum):
    UNKNOWN = "unknown"  # a newer control plane's word: leave the instance as it is, and say so
    RUNNING = "running"
    STOPPED = "stopped"
    REMOVED = "removed"
    HELD = "held"
    PAUSED = "paused"  # exists, its processes stand still


class Effort(enum.Enum):
    """How much fetching may disturb others; of several who want one content the first counts."""

    ORDINARY = 0
    LOWER = 1
    PAUSED = 2  # stands still; what is there stays


class Phase(enum.Enum):
    PENDING = "pending"
    FETCHING = "fetching"
    VERIFIED = "verified"
    CREATING = "creating"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    FAILED = "failed"
    REMOVED = "removed"


class Health(enum.Enum):
    UNKNOWN = "unknown"
    NONE = "none"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Content:
    """One blob or manifest and the right to read it. Tokens are renewed; they are no part of what the content is."""

    digest: Digest
    size_bytes: int
    media_type: str
    token: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Image:
    """`contents`: config first, then layers in order, without the manifest."""

    repository: str
    tag: str
    manifest: Content
    contents: tuple[Content, ...]

    @property
    def everything(self) -> tuple[Content, ...]:
        """Each content once, manifest first: the same layer may stand in an image twice."""
        return tuple({content.digest: content for content in (self.manifest, *self.contents)}.values())


@dataclass(frozen=True, slots=True)
class PortMapping:
    """`host_port` 0: any free one."""

    host_ip: str
    host_port: int
    container_port: int
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class Mount:
    """A named volume, or instead a directory of the host, which the agent's operator must have allowed."""

    volume: str
    target: str
    read_only: bool = False
    host_path: str = ""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """`test` is an argv run inside the container; 0 seconds or retries mean the engine's default."""

    test: tuple[str, ...]
    interval_seconds: float = 0.0
    timeout_seconds: float = 0.0
    retries: int = 0
    start_period_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """`cpus`, `memory_bytes`, `disk_bytes`: 0 is unlimited. Empty command, entrypoint, user and working directory: the
    image's.

    cpu_set: the cores it may use, as `0-2,5`; empty: any. network: `bridge`, `none`, `host` or the name of one that the
    engine has; empty: what the agent's operator set. privileged, network `host`: only where that operator allowed it.
    """

    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[PortMapping, ...] = ()
    mounts: tuple[Mount, ...] = ()
    cpus: float = 0.0
    memory_bytes: int = 0
    health_check: HealthCheck | None = None
    stop_grace_seconds: int = 10
    cpu_set: str = ""
    disk_bytes: int = 0
    network: str = ""
    hostname: str = ""
    user: str = ""
    working_dir: str = ""
    privileged: bool = False


@dataclass(frozen=True, slots=True)
class AdoptionWish:
    """Which container, that somebody else made, shall become this instance. `container`: engine id or name; empty: one
    whose label offers it. recreate: if it does not fit the specification, replace it; else say what differs.
    """

    container: str = ""
    recreate: bool = False


@dataclass(frozen=True, slots=True)
class AgentUpdate:
    """The held image is the agent that this host shall run (agent/updates). `order` grows over the whole fleet."""

    order: int
    version: str
    healthy_seconds: float
    patience_seconds: float


@dataclass(frozen=True, slots=True)
class HandOver:
    """What stands here may be copied by one other host."""

    move_id: str
    target_host_id: str


@dataclass(frozen=True, slots=True)
class TakeOver:
    """The instance is a copy of what stands on another host, and never made of its image. `addresses`: host:port where
    that host waits; empty while nobody knows, and once the copy is there.
    """

    move_id: str
    source_host_id: str
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MoveReport:
    """This host's newest word on one move: where it waits as the source, how much has come as the target."""

    move_id: str
    addresses: tuple[str, ...] = ()
    copied_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Assignment:
    instance_id: str
    generation: int
    tenant_id: str
    tenant: str
    name: str
    desired_state: DesiredState
    image: Image
    container: ContainerSpec = ContainerSpec()
    restart_nonce: int = 0
    effort: Effort = Effort.ORDINARY
    stop_when_cut_off_seconds: int = 0
    adopt: AdoptionWish | None = None
    agent_update: AgentUpdate | None = None
    hand_over: HandOver | None = None
    take_over: TakeOver | None = None
    spec_hash: str = field(init=False, compare=False, repr=False)
    """Names all that makes a container what it is: two containers with the same hash are interchangeable."""

    def __post_init__(self) -> None:
        # Once: each round asks for it several times, and making it was a third of what a round costs.
        object.__setattr__(self, "spec_hash", self._spec_hash())

    @property
    def container_name(self) -> str:
        """Unique on the host. The id's tail, not its head: UUIDv7 heads are equal within a minute of each other."""
        return f"ls-{_plain(self.tenant)}-{_plain(self.name)}-{self.instance_id.replace('-', '')[-8:]}"

    def _spec_hash(self) -> str:
        # What nobody wished is left out, so that a field which a newer agent knows does not recreate every container.
        # How long stopping may take is asked when stopping; a change of it must not recreate anything.
        unset = ContainerSpec()
        spec = {
            key: value
            for key, value in asdict(self.container).items()
            if key != "stop_grace_seconds" and getattr(self.container, key) != getattr(unset, key)
        }
        canonical = json.dumps({"manifest": str(self.image.manifest.digest), "spec": spec}, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An assignment in words that this agent does not understand."""

    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Assignments:
    """Desired state of the whole host at one generation.

    known: False until a full set was ever received: then nothing may be removed for being absent.
    unreadable: by instance id; what exists of them is left alone.
    """

    generation: int = 0
    known: bool = False
    items: Mapping[str, Assignment] = field(default_factory=dict)
    unreadable: Mapping[str, Unreadable] = field(default_factory=dict)


class ContainerState(enum.Enum):
    CREATED = "created"  # never started
    RUNNING = "running"
    RESTARTING = "restarting"  # exited, and the engine itself is about to start it again
    PAUSED = "paused"
    EXITED = "exited"
    DEAD = "dead"  # the engine failed to remove it; only removing again helps


LIVE_STATES = frozenset({ContainerState.RUNNING, ContainerState.RESTARTING, ContainerState.PAUSED})


@dataclass(frozen=True, slots=True)
class Container:
    """One container of ours, as the engine shows it. `runtime_id` is the engine's name for it; `stop_grace_seconds` was
    wished when it was made. adopted: somebody else made it, or one that it took settings over from. move: by which it
    came from another host; empty: it was made here. unfinished: the engine is at it, or ended while it was: it must not
    be started.
    """

    runtime_id: str
    name: str
    instance_id: str
    generation: int
    spec_hash: str
    state: ContainerState
    health: Health = Health.NONE
    exit_code: int = 0
    restart_count: int = 0
    detail: str = ""
    stop_grace_seconds: int = 10
    adopted: bool = False
    move: str = ""
    unfinished: bool = False


@dataclass(frozen=True, slots=True)
class InstanceReport:
    instance_id: str
    generation: int
    phase: Phase
    health: Health = Health.UNKNOWN
    detail: str = ""
    runtime_id: str = ""
    restart_count: int = 0


@dataclass(frozen=True, slots=True)
class Provenance:
    """Bytes of payload, by where they came from; cumulative. `reused_bytes`: from other contents of this host."""

    from_centre_bytes: int = 0
    from_regional_bytes: int = 0
    from_peers_bytes: int = 0
    reused_bytes: int = 0

    def plus(self, centre: int = 0, regional: int = 0, peers: int = 0, reused: int = 0) -> Provenance:
        return Provenance(
            self.from_centre_bytes + centre,
            self.from_regional_bytes + regional,
            self.from_peers_bytes + peers,
            self.reused_bytes + reused,
        )


@dataclass(frozen=True, slots=True)
class ContentReport:
    digest: Digest
    tenant_id: str
    size_bytes: int
    held_bytes: int
    verified: bool
    provenance: Provenance = Provenance()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RegionalEndpoint:
    """One regional of our IDC. `content_url`: https, mutual TLS; `swarm_url`: plain http, for BitTorrent clients."""

    regional_id: str
    content_url: str
    swarm_url: str
    peer_address: str = ""


@dataclass(frozen=True, slots=True)
class Engine:
    kind: str
    version: str
    storage_driver: str = ""


def _plain(text: str) -> str:
    # What engines accept in a name; tenants' names are stricter already, instance names may not be.
    return re.sub(r"[^a-zA-Z0-9_.-]", "-", text)[:60]
