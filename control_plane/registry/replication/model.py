"""Endpoints, rules, executions and tasks; what a rule wants and where it goes; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from common.reference import NameInvalid, check_repository_name
from control_plane.registry.manifests import ParsedManifest
from control_plane.registry.patterns import check_patterns, compile_patterns
from control_plane.registry.replication.failures import RuleInvalid
from control_plane.tenants.access import Principal, Role

# The owner of the platform's endpoints and rules; no tenant has this id or name.
PLATFORM = ""
ALL = -1
_LITERAL = re.compile(r"[^*?\[\]]*")
# Config types of what container runtimes run; everything else is an artifact.
_IMAGE_CONFIGS = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
_RETRY_CAP_SECONDS = 900.0
GIVE_UP_AFTER = timedelta(hours=24)


class Direction(StrEnum):
    PUSH = "push"
    PULL = "pull"


class Cause(StrEnum):
    MANUAL = "manual"
    EVENT = "event"
    SCHEDULE = "schedule"


class State(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


OPEN = (State.PENDING, State.RUNNING)


class Work(StrEnum):
    """`PLAN` lists what an execution copies; `reference` of the others is a tag or digest."""

    PLAN = "plan"
    COPY = "copy"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class OtherRegistry:
    """An endpoint. `sealed` is the password, for the sealing of this row only; `revision` changes with the row."""

    endpoint_id: str
    tenant_id: str
    tenant: str
    name: str
    url: str
    username: str
    ca_pem: str
    auth_hosts: tuple[str, ...]
    created_at: datetime
    revision: int = 1
    sealed: bytes | None = field(default=None, repr=False)
    checked_at: datetime | None = None
    # Why the last check failed; "" for one that succeeded.
    trouble: str = ""

    @property
    def seal_identity(self) -> str:
        return f"replication-endpoints/{self.endpoint_id}"


@dataclass(frozen=True, slots=True)
class Filter:
    """What is copied. `kinds`: "image", "artifact"; `platforms` ("linux/arm64"): of an index only these images, empty
    for all; `annotations`: what the manifest must say.
    """

    repositories: tuple[str, ...]
    tags: tuple[str, ...] = ("*",)
    kinds: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    def takes_name(self, repository: str) -> bool:
        return compile_patterns(self.repositories).match(repository)

    def takes_tag(self, tag: str) -> bool:
        return compile_patterns(self.tags).match(tag)

    @property
    def takes_every_tag(self) -> bool:
        return "*" in self.tags

    def takes(self, parsed: ParsedManifest) -> bool:
        if self.kinds and kind_of(parsed) not in self.kinds:
            return False
        return all(parsed.annotations.get(key) == value for key, value in self.annotations.items())

    def takes_platform(self, operating_system: str, architecture: str, variant: str) -> bool:
        if not self.platforms or operating_system == "unknown":  # attestations of builds: they belong to all
            return True
        plain = f"{operating_system}/{architecture}"
        return plain in self.platforms or f"{plain}/{variant}" in self.platforms

    @property
    def literal_names(self) -> tuple[str, ...] | None:
        """The repositories, if no pattern has a wildcard."""
        if all(_LITERAL.fullmatch(text) for text in self.repositories):
            return self.repositories
        return None


@dataclass(frozen=True, slots=True)
class Naming:
    """What a repository is called at the destination: its first `strip` components are left out (`ALL`: all but the
    last one), then `namespace` is put in front.
    """

    namespace: str = ""
    strip: int = 0

    def of(self, repository: str) -> str:
        """Raises `RuleInvalid` if nothing of a name is left."""
        parts = repository.split("/")
        kept = parts[-1:] if self.strip == ALL else parts[self.strip :]
        name = "/".join(part for part in (self.namespace, *kept) if part)
        try:
            return check_any_name(name)
        except NameInvalid as error:
            raise RuleInvalid(
                f"{repository} cannot be named {name!r} at the destination", action="change the namespace or strip less"
            ) from error


def check_any_name(name: str) -> str:
    """Of a repository anywhere: other registries have names of one component. Raises `NameInvalid`."""
    check_repository_name(name if "/" in name else f"any/{name}")
    return name


@dataclass(frozen=True, slots=True)
class Rule:
    """`override`: whether a tag that means something else at the destination is moved. `also_delete`: events delete
    there too. `next_run_at` is of its schedule.
    """

    rule_id: str
    tenant_id: str
    tenant: str
    name: str
    endpoint_id: str
    direction: Direction
    source: Filter
    naming: Naming
    on_event: bool
    every_hours: float | None
    also_delete: bool
    override: bool
    referrers: bool
    bytes_per_second: int | None
    enabled: bool
    created_at: datetime
    created_by: str
    next_run_at: datetime | None = None

    def checked(self) -> Rule:
        """Itself. Raises `PatternInvalid`, `RuleInvalid`."""
        check_patterns(self.source.repositories)
        check_patterns(self.source.tags)
        if not self.source.repositories or not self.source.tags:
            raise RuleInvalid("nothing would be copied", action="give patterns of repositories and tags")
        if self.direction is Direction.PULL and (self.on_event or self.also_delete):
            raise RuleInvalid("a rule that pulls hears of no events there", action="give it a schedule instead")
        if self.also_delete and not self.on_event:
            raise RuleInvalid("deletions are copied by event only", action="let it run on events too")
        if self.naming.namespace:
            try:
                check_any_name(self.naming.namespace)
            except NameInvalid as error:
                raise RuleInvalid(f"{self.naming.namespace!r} is no namespace", action="give path/like/this") from error
        if self.direction is Direction.PULL and self.tenant and not self._stays_home():
            raise RuleInvalid(
                f"what it pulls would not go to {self.tenant}", action=f"give the namespace {self.tenant}"
            )
        return self

    def _stays_home(self) -> bool:
        if self.naming.namespace:
            return self.naming.namespace.partition("/")[0] == self.tenant
        return self.naming.strip == 0 and all(text.startswith(f"{self.tenant}/") for text in self.source.repositories)

    def scheduled(self, now: datetime) -> datetime | None:
        """When it is due next, if it is due now or newly scheduled."""
        return None if self.every_hours is None or not self.enabled else now + timedelta(hours=self.every_hours)

    def keeper(self, repository: str) -> Principal:
        """Who stores what is pulled: nobody's account, with the rights of an administrator of the repository's tenant.
        Raises `RuleInvalid` for a repository that is not the rule's owner's.
        """
        tenant = repository.partition("/")[0]
        if self.tenant not in (PLATFORM, tenant):
            raise RuleInvalid(
                f"{repository} is not a repository of {self.tenant}", action="change the rule's namespace"
            )
        return Principal("", "replication", roles={tenant: Role.ADMIN})


@dataclass(frozen=True, slots=True)
class Execution:
    execution_id: str
    rule_id: str
    tenant_id: str
    tenant: str
    cause: Cause
    state: State
    created_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """How an execution's tasks stand; `bytes_done` is what crossed the wire."""

    tasks: Mapping[State, int]
    bytes_done: int


@dataclass(frozen=True, slots=True)
class Task:
    """One image. `attempts` counts those that began; `detail` says what came of it, or why the last one failed.
    `checkpoint`: uploads of ours that can be gone on with, by digest.
    """

    task_id: str
    execution_id: str
    rule_id: str
    endpoint_id: str
    work: Work
    repository: str
    reference: str
    destination: str
    state: State
    attempts: int
    bytes_done: int
    detail: str
    created_at: datetime
    next_at: datetime
    ended_at: datetime | None = None
    checkpoint: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A task to do now, with what it needs; `lease` names this attempt."""

    task: Task
    rule: Rule
    endpoint: OtherRegistry
    lease: str


def kind_of(parsed: ParsedManifest) -> str:
    if parsed.is_index:
        return "artifact" if parsed.artifact_type else "image"
    return "image" if parsed.artifact_type in _IMAGE_CONFIGS else "artifact"


def retry_seconds(attempts: int, wait: float, chance: float) -> float:
    """After that many attempts: capped exponential with full jitter by `chance` in [0, 1), not before `wait`."""
    return max(wait, 1.0 + min(_RETRY_CAP_SECONDS, 2.0 ** min(attempts, 30)) * chance)
