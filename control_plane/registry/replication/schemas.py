"""The wire forms of endpoints and rules."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from control_plane.registry.replication.endpoints import EndpointPlan
from control_plane.registry.replication.model import Direction, OtherRegistry, Rule
from control_plane.registry.replication.rules import RuleChange, RulePlan
from control_plane.registry.replication.selection import ALL, Filter, Naming

_Printable = Annotated[str, StringConstraints(max_length=255, pattern=r"^[\x20-\x7e]*$")]
_Name = Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*$")]
_Host = Annotated[str, StringConstraints(max_length=255, pattern=r"^[A-Za-z0-9.:\-\[\]]+$")]
_Tenant = Annotated[str | None, Field(max_length=255, description="absent: the platform's")]
_Pattern = Annotated[str, Field(max_length=255)]
_Patterns = Annotated[list[_Pattern], Field(min_length=1, max_length=64)]
_Kind = Literal["image", "artifact"]
_Platform = Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9]+)?$")]
_Cron = Annotated[str, Field(max_length=120)]
_Zone = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9._+\-/]+$")]
_Hours = Annotated[float, Field(ge=0.1, le=24 * 366)]
_Rate = Annotated[int, Field(ge=65536, le=1 << 40)]
_Annotations = Annotated[dict[_Printable, _Printable], Field(max_length=16)]
_FILTER = ("repositories", "tags", "kinds", "platforms", "annotations")
_NAMING = ("namespace", "strip")
_REMOVABLE = ("every_hours", "cron", "bytes_per_second")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Credentials(_Body):
    username: _Printable
    password: Annotated[SecretStr, Field(max_length=8192)]


class EndpointBody(_Body):
    tenant: _Tenant = None
    name: _Name
    url: Annotated[str, Field(max_length=512, description="[https://]host[:port]; http only where the operator allows")]
    credentials: Credentials | None = None
    ca_pem: Annotated[str, Field(max_length=65536, description="certificate authority, beside the system's")] = ""
    auth_hosts: Annotated[
        list[_Host], Field(max_length=8, description="hosts of its token service, if it is not on the registry's own")
    ] = []

    def to_plan(self) -> EndpointPlan:
        return EndpointPlan(
            tenant=self.tenant,
            name=self.name,
            url=self.url,
            username=self.credentials.username if self.credentials else "",
            password=self.credentials.password.get_secret_value() if self.credentials else "",
            ca_pem=self.ca_pem,
            auth_hosts=self.auth_hosts,
        )


class EndpointView(BaseModel):
    """The password is not in it, and nowhere else. `healthy` null: never checked."""

    id: str
    tenant: str | None
    name: str
    url: str
    username: str
    has_credentials: bool
    has_ca: bool
    auth_hosts: list[str]
    created_at: datetime
    checked_at: datetime | None
    healthy: bool | None
    trouble: str

    @classmethod
    def of(cls, endpoint: OtherRegistry) -> EndpointView:
        return cls(
            id=endpoint.endpoint_id,
            tenant=endpoint.tenant or None,
            name=endpoint.name,
            url=endpoint.url,
            username=endpoint.username,
            has_credentials=endpoint.sealed is not None,
            has_ca=bool(endpoint.ca_pem),
            auth_hosts=list(endpoint.auth_hosts),
            created_at=endpoint.created_at,
            checked_at=endpoint.checked_at,
            healthy=None if endpoint.checked_at is None else not endpoint.trouble,
            trouble=endpoint.trouble,
        )


class RuleBody(_Body):
    tenant: _Tenant = None
    name: _Name
    endpoint_id: Annotated[str, Field(max_length=64)]
    direction: Direction
    repositories: Annotated[_Patterns, Field(description="patterns of names at the source")]
    tags: _Patterns = ["*"]
    kinds: Annotated[list[_Kind], Field(description="empty: all")] = []
    platforms: Annotated[list[_Platform], Field(max_length=16, description="of an index only these; empty: all")] = []
    annotations: Annotated[_Annotations, Field(description="what a manifest must say")] = {}
    namespace: Annotated[str, Field(max_length=200, description="put in front of names at the destination")] = ""
    strip: Annotated[
        int, Field(ge=ALL, le=16, description="how many components of names are left out; -1: all but the last")
    ] = 0
    on_event: Annotated[bool, Field(description="copy what is pushed, when it is")] = False
    every_hours: Annotated[_Hours | None, Field(description="copy everything so often")] = None
    cron: Annotated[_Cron | None, Field(description="or at these times: minute hour day month weekday")] = None
    time_zone: Annotated[_Zone, Field(description="of cron, like Europe/Berlin")] = "UTC"
    also_delete: Annotated[
        bool, Field(description="what the rule copied and is gone at the source goes at the destination")
    ] = False
    override: Annotated[bool, Field(description="move tags that mean something else at the destination")] = True
    referrers: Annotated[bool, Field(description="with signatures, SBOMs and whatever refers to an image")] = True
    bytes_per_second: Annotated[_Rate | None, Field(description="of each process that copies")] = None
    enabled: bool = True

    def to_plan(self) -> RulePlan:
        return RulePlan(
            tenant=self.tenant,
            name=self.name,
            endpoint_id=self.endpoint_id,
            direction=self.direction,
            source=Filter(
                tuple(self.repositories), tuple(self.tags), tuple(self.kinds), tuple(self.platforms), self.annotations
            ),
            naming=Naming(self.namespace, self.strip),
            on_event=self.on_event,
            every_hours=self.every_hours,
            cron=self.cron,
            time_zone=self.time_zone,
            also_delete=self.also_delete,
            override=self.override,
            referrers=self.referrers,
            bytes_per_second=self.bytes_per_second,
            enabled=self.enabled,
        )


class RuleUpdate(_Body):
    """What is absent stays; null takes a schedule or a limit away."""

    repositories: _Patterns | None = None
    tags: _Patterns | None = None
    kinds: list[_Kind] | None = None
    platforms: Annotated[list[_Platform] | None, Field(max_length=16)] = None
    annotations: _Annotations | None = None
    namespace: Annotated[str | None, Field(max_length=200)] = None
    strip: Annotated[int | None, Field(ge=ALL, le=16)] = None
    on_event: bool | None = None
    every_hours: _Hours | None = None
    cron: _Cron | None = None
    time_zone: _Zone | None = None
    also_delete: bool | None = None
    override: bool | None = None
    referrers: bool | None = None
    bytes_per_second: _Rate | None = None
    enabled: bool | None = None

    def to_change(self) -> RuleChange:
        given = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in self.model_dump(exclude_unset=True).items()
            if value is not None or name in _REMOVABLE
        }

        def chosen(names: tuple[str, ...]) -> dict[str, Any]:
            return {name: given.pop(name) for name in names if name in given}

        source, naming = chosen(_FILTER), chosen(_NAMING)
        return RuleChange(source, naming, given)


class RuleView(BaseModel):
    id: str
    tenant: str | None
    name: str
    endpoint_id: str
    direction: Direction
    repositories: list[str]
    tags: list[str]
    kinds: list[str]
    platforms: list[str]
    annotations: dict[str, str]
    namespace: str
    strip: int
    on_event: bool
    every_hours: float | None
    cron: str | None
    time_zone: str
    also_delete: bool
    override: bool
    referrers: bool
    bytes_per_second: int | None
    enabled: bool
    created_at: datetime
    created_by: str
    next_run_at: datetime | None

    @classmethod
    def of(cls, rule: Rule) -> RuleView:
        return cls(
            id=rule.rule_id,
            tenant=rule.tenant or None,
            name=rule.name,
            endpoint_id=rule.endpoint_id,
            direction=rule.direction,
            repositories=list(rule.source.repositories),
            tags=list(rule.source.tags),
            kinds=list(rule.source.kinds),
            platforms=list(rule.source.platforms),
            annotations=dict(rule.source.annotations),
            namespace=rule.naming.namespace,
            strip=rule.naming.strip,
            on_event=rule.on_event,
            every_hours=rule.every_hours,
            cron=rule.cron,
            time_zone=rule.time_zone,
            also_delete=rule.also_delete,
            override=rule.override,
            referrers=rule.referrers,
            bytes_per_second=rule.bytes_per_second,
            enabled=rule.enabled,
            created_at=rule.created_at,
            created_by=rule.created_by,
            next_run_at=rule.next_run_at,
        )
