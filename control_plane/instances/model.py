"""Instances: what is wanted of one container on one host, and what the host says of it; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from common.digest import Digest


class DesiredState(StrEnum):
    RUNNING = "running"
    STOPPED = "stopped"
    HELD = "held"  # the contents are fetched and verified, nothing runs
    PAUSED = "paused"  # its processes stand still
    REMOVED = "removed"


class Phase(StrEnum):
    """What the host is at. Not ordered: an instance goes back and forth."""

    PENDING = "pending"
    FETCHING = "fetching"
    VERIFIED = "verified"
    CREATING = "creating"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    FAILED = "failed"
    REMOVED = "removed"


class Health(StrEnum):
    UNKNOWN = "unknown"
    NONE = "none"  # no health check declared
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class PortMapping:
    """`host_ip` empty: 127.0.0.1. `host_port` 0: any free port."""

    container_port: int
    host_port: int = 0
    host_ip: str = ""
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class Mount:
    """A named volume of the tenant, or instead a directory of the host, for which a platform admin must ask."""

    volume: str
    target: str
    read_only: bool = False
    host_path: str = ""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """`test`: argv run in the container; exit 0 is healthy."""

    test: tuple[str, ...]
    interval_seconds: float = 10.0
    timeout_seconds: float = 5.0
    retries: int = 3
    start_period_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class AdoptionWish:
    """Which container of the host, that somebody else made, shall become the instance. `container`: id or name in the
    engine; empty: one whose label offers it. recreate: replace it if it does not fit.
    """

    container: str = ""
    recreate: bool = False


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """How to run it. Empty command, entrypoint, user, folder: the image's. Zero limits: none. Zero grace: 10 seconds.

    cpu_set: the cores it may use, as `0-2,5`; empty: any. network: `bridge`, `none`, `host` or the name of one that the
    engine has; empty: what the host's operator set.
    stop_when_cut_off_seconds: after how long its host stops it when nobody reaches the host; 0: never.
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
    stop_grace_seconds: int = 0
    stop_when_cut_off_seconds: int = 0
    cpu_set: str = ""
    disk_bytes: int = 0
    network: str = ""
    hostname: str = ""
    user: str = ""
    working_dir: str = ""
    privileged: bool = False
    adopt: AdoptionWish | None = None


@dataclass(frozen=True, slots=True)
class ImageContent:
    digest: Digest
    size_bytes: int
    media_type: str


@dataclass(frozen=True, slots=True)
class InstanceImage:
    """An image as it was when the instance was asked for. `reference` is what the person wrote.

    contents: config first, then layers in order; the manifest is not among them.
    """

    reference: str
    repository: str
    tag: str
    manifest: ImageContent
    contents: tuple[ImageContent, ...]

    def __hash__(self) -> int:
        # Images are looked up a thousand times for a fan-out; the manifest names its contents.
        return hash((self.reference, self.manifest.digest.hex))

    def all_contents(self) -> tuple[ImageContent, ...]:
        """Manifest and contents, each digest once."""
        unique = {content.digest: content for content in (self.manifest, *self.contents)}
        return tuple(unique.values())


@dataclass(frozen=True, slots=True)
class HeldImage:
    """What a host is told to hold without an instance of it here. `id` and `generation` are those of the wish."""

    id: str
    tenant_id: str
    tenant: str
    name: str
    image: InstanceImage
    generation: int


@dataclass(frozen=True, slots=True)
class Instance:
    """The desired side. `generation` grows by one with every change of it."""

    id: str
    tenant_id: str
    tenant: str
    host_id: str
    idc_id: str
    name: str
    image: InstanceImage
    spec: InstanceSpec
    desired_state: DesiredState
    generation: int
    restart_nonce: int
    created_at: datetime
    updated_at: datetime

    @property
    def wish(self) -> Wish:
        return Wish(self.id, self.tenant_id, self.host_id, self.desired_state, self.generation)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted of an instance, without its image and spec: all that a report of it is held against."""

    id: str
    tenant_id: str
    host_id: str
    desired_state: DesiredState
    generation: int


@dataclass(frozen=True, slots=True)
class Status:
    """The observed side: what the host said last, of the generation it spoke of. Generation 0: it said nothing yet."""

    observed_generation: int = 0
    phase: Phase = Phase.PENDING
    health: Health = Health.UNKNOWN
    detail: str = ""
    runtime_id: str = ""
    restart_count: int = 0
    reported_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instance is to run. `architecture` in GOARCH words."""

    host_id: str
    host: str
    idc_id: str
    idc: str
    architecture: str = "amd64"
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Holdings:
    """Bytes of an instance's contents on its host, and where they came from."""

    total_bytes: int = 0
    held_bytes: int = 0
    verified: bool = False
    from_centre_bytes: int = 0
    from_regional_bytes: int = 0
    from_peers_bytes: int = 0
    reused_bytes: int = 0


@dataclass(frozen=True, slots=True)
class InstanceView:
    """Everything that is shown of an instance."""

    instance: Instance
    status: Status
    host: str
    idc: str
    holdings: Holdings


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One instance a host. Exactly one of `hosts` (each an id or `idc/name`), `idc` and `all_hosts` says where."""

    tenant: str
    name: str
    image: str
    spec: InstanceSpec
    desired_state: DesiredState = DesiredState.RUNNING
    hosts: tuple[str, ...] = ()
    idc: str | None = None
    all_hosts: bool = False
