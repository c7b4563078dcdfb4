"""Wire models of `/api/v1/instances`. Types and bounds of single values are checked here, what they mean in
rules.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from control_plane.instances.model import (
    AdoptionWish,
    DesiredState,
    Health,
    HealthCheck,
    InstanceSpec,
    InstanceView,
    Mount,
    Phase,
    PortMapping,
    RunRequest,
)
from control_plane.swarm.schemas import NO_NUL

# PostgreSQL takes no NUL, not even in what it is asked for.
Name = Annotated[str, StringConstraints(max_length=300, pattern=NO_NUL)]
_Words = Annotated[list[str], Field(max_length=256)]
_Map = Annotated[dict[str, str], Field(max_length=256)]


class _Asked(BaseModel):
    """An unknown field is an error: it was meant to do something."""

    model_config = ConfigDict(extra="forbid")


class PortBody(_Asked):
    container_port: int
    host_port: int = Field(default=0, description="0: any free port")
    host_ip: str = Field(default="", description="empty: 127.0.0.1")
    protocol: Literal["tcp", "udp"] = "tcp"


class MountBody(_Asked):
    volume: str = Field(default="", description="name of a volume; never a path")
    target: str
    read_only: bool = False
    host_path: str = Field(default="", description="instead of a volume: a directory of the host; platform admins only")


class HealthCheckBody(_Asked):
    test: _Words = Field(description="argv run in the container; exit 0 is healthy")
    interval_seconds: float = 10.0
    timeout_seconds: float = 5.0
    retries: int = 3
    start_period_seconds: float = 0.0


class AdoptBody(_Asked):
    container: str = Field(
        default="",
        max_length=255,
        description="id or name in the engine of the one host; platform admins only. Empty: a container there whose "
        "label longshore.adopt=<tenant>/<name> offers it",
    )
    recreate: bool = Field(default=False, description="replace it if it does not fit; else its differences are said")


class SpecBody(_Asked):
    """How to run an image. What is left out is as the image has it."""

    command: _Words | None = Field(default=None, description="instead of the image's")
    entrypoint: _Words | None = Field(default=None, description="instead of the image's")
    environment: _Map | None = None
    labels: _Map | None = None
    ports: Annotated[list[PortBody], Field(max_length=256)] | None = None
    mounts: Annotated[list[MountBody], Field(max_length=256)] | None = None
    cpus: float = Field(default=0, description="cores; 0: no limit")
    memory_bytes: int = Field(default=0, description="0: no limit")
    health_check: HealthCheckBody | None = None
    stop_grace_seconds: int = Field(default=0, description="0: 10 seconds")
    cpu_set: str = Field(default="", description="cores it may use, as 0-2,5; empty: any")
    disk_bytes: int = Field(default=0, description="0: no limit; an engine that cannot limit it refuses")
    network: str = Field(
        default="", description="bridge or none; host or the name of an engine's network: platform admins only"
    )
    hostname: str = ""
    user: str = Field(default="", description="name, uid or uid:gid; empty: the image's")
    working_dir: str = Field(default="", description="empty: the image's")
    privileged: bool = Field(default=False, description="platform admins only, on hosts whose agents allow it")
    adopt: AdoptBody | None = Field(default=None, description="a container that is there becomes the instance")

    def spec(self) -> InstanceSpec:
        check = self.health_check
        return InstanceSpec(
            command=tuple(self.command or ()),
            entrypoint=tuple(self.entrypoint or ()),
            environment=self.environment or {},
            labels=self.labels or {},
            ports=tuple(PortMapping(**port.model_dump()) for port in self.ports or ()),
            mounts=tuple(Mount(**mount.model_dump()) for mount in self.mounts or ()),
            cpus=self.cpus,
            memory_bytes=self.memory_bytes,
            health_check=None if check is None else HealthCheck(**{**check.model_dump(), "test": tuple(check.test)}),
            stop_grace_seconds=self.stop_grace_seconds,
            cpu_set=self.cpu_set,
            disk_bytes=self.disk_bytes,
            network=self.network,
            hostname=self.hostname,
            user=self.user,
            working_dir=self.working_dir,
            privileged=self.privileged,
            adopt=None if self.adopt is None else AdoptionWish(self.adopt.container, self.adopt.recreate),
        )


class RunBody(SpecBody):
    """One instance on each host that `hosts`, `idc` or `all_hosts` names; exactly one of the three."""

    tenant: Name
    name: str = Field(max_length=255)
    image: str = Field(max_length=600, examples=["acme/web:1.4"])
    hosts: Annotated[list[Name], Field(max_length=1000)] | None = Field(
        default=None, description="each an id or idc/name"
    )
    idc: Name | None = None
    all_hosts: bool = False
    desired_state: Literal["running", "paused", "held"] = Field(
        default="running", description="paused: its processes stand still; held: fetch and verify, run nothing"
    )

    def request(self) -> RunRequest:
        return RunRequest(
            tenant=self.tenant,
            name=self.name,
            image=self.image,
            spec=self.spec(),
            desired_state=DesiredState(self.desired_state),
            hosts=tuple(self.hosts or ()),
            idc=self.idc,
            all_hosts=self.all_hosts,
        )


class AdoptionBody(RunBody):
    """What the container is to be as an instance, and which container of the host it is."""

    hosts: Literal[None] = None
    idc: Literal[None] = None
    all_hosts: Literal[False] = False
    adopt: AdoptBody

    def on(self, host: str) -> RunRequest:
        return replace(self.request(), hosts=(host,))


class HoldingsBody(BaseModel):
    """Bytes of the image on the host, and where they came from."""

    total_bytes: int
    held_bytes: int
    verified: bool
    from_centre_bytes: int
    from_regional_bytes: int
    from_peers_bytes: int
    reused_bytes: int


class InstanceBody(BaseModel):
    """`generation` is what is wanted now, `observed_generation` what the host spoke of last."""

    id: str
    tenant: str
    name: str
    host: str
    host_id: str
    idc: str
    image: str
    digest: str
    desired_state: DesiredState
    generation: int
    observed_generation: int
    phase: Phase
    health: Health
    detail: str
    runtime_id: str
    restart_count: int
    contents: HoldingsBody
    created_at: datetime
    updated_at: datetime


def instance_body(view: InstanceView) -> InstanceBody:
    instance, status, holdings = view.instance, view.status, view.holdings
    return InstanceBody(
        id=instance.id,
        tenant=instance.tenant,
        name=instance.name,
        host=view.host,
        host_id=instance.host_id,
        idc=view.idc,
        image=instance.image.reference,
        digest=str(instance.image.manifest.digest),
        desired_state=instance.desired_state,
        generation=instance.generation,
        observed_generation=status.observed_generation,
        phase=status.phase,
        health=status.health,
        detail=status.detail,
        runtime_id=status.runtime_id,
        restart_count=status.restart_count,
        contents=HoldingsBody(
            total_bytes=holdings.total_bytes,
            held_bytes=holdings.held_bytes,
            verified=holdings.verified,
            from_centre_bytes=holdings.from_centre_bytes,
            from_regional_bytes=holdings.from_regional_bytes,
            from_peers_bytes=holdings.from_peers_bytes,
            reused_bytes=holdings.reused_bytes,
        ),
        created_at=instance.created_at,
        updated_at=max(instance.updated_at, status.reported_at or instance.updated_at),
    )
