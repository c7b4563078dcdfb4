"""Endpoints, rules, executions and tasks; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from common.reference import NameInvalid
from control_plane.jobs.cron import next_time
from control_plane.registry.patterns import check_patterns
from control_plane.registry.replication.attached import is_companion
from control_plane.registry.replication.failures import RuleInvalid
from control_plane.registry.replication.selection import Filter, Naming, check_any_name
from control_plane.tenants.access import Principal, Role

# The owner of the platform's endpoints and rules; no tenant has this id or name.
PLATFORM = ""
HERE = ""
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
class Rule:
    """`override`: whether a tag that means something else at the destination is moved. `also_delete`: what the rule
    copied and is gone at the source goes at the destination. Its schedule is `every_hours`, or `cron` in its
    `time_zone`; `next_run_at` is of that.
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
    cron: str | None = None
    time_zone: str = "UTC"

    def checked(self) -> Rule:
        """Itself. Raises `PatternInvalid`, `CronInvalid`, `RuleInvalid`."""
        check_patterns(self.source.repositories)
        check_patterns(self.source.tags)
        if not self.source.repositories or not self.source.tags:
            raise RuleInvalid("nothing would be copied", action="give patterns of repositories and tags")
        if self.direction is Direction.PULL and self.on_event:
            raise RuleInvalid("a rule that pulls hears of no events there", action="give it a schedule instead")
        if self.naming.namespace:
            try:
                check_any_name(self.naming.namespace)
            except NameInvalid as error:
                raise RuleInvalid(f"{self.naming.namespace!r} is no namespace", action="give path/like/this") from error
        if self.direction is Direction.PULL and self.tenant and not self._stays_home():
            raise RuleInvalid(
                f"what it pulls would not go to {self.tenant}", action=f"give the namespace {self.tenant}"
            )
        if self.every_hours is not None and self.cron is not None:
            raise RuleInvalid("it has two schedules", action="give it hours or a cron expression")
        next_time(self.cron or "0 0 * * *", self.time_zone, self.created_at)
        return self

    def _stays_home(self) -> bool:
        if self.naming.namespace:
            return self.naming.namespace.partition("/")[0] == self.tenant
        return self.naming.strip == 0 and all(text.startswith(f"{self.tenant}/") for text in self.source.repositories)

    @property
    def schedule(self) -> tuple[object, ...]:
        """What decides when it runs."""
        return self.enabled, self.every_hours, self.cron, self.time_zone

    def scheduled(self, now: datetime) -> datetime | None:
        """When it is due next, if it is due now or newly scheduled."""
        if not self.enabled:
            return None
        if self.cron is not None:
            return next_time(self.cron, self.time_zone, now)
        return None if self.every_hours is None else now + timedelta(hours=self.every_hours)

    def first_run(self, now: datetime) -> datetime | None:
        """Of a new rule: hours count from now, a time of day is waited for."""
        following = self.scheduled(now)
        return now if following is not None and self.cron is None else following

    def covers(self, copied: Copied) -> bool:
        """Whether the rule would still copy what has this name."""
        tag = copied.reference
        try:
            named = self.naming.of(copied.repository) == copied.destination
        except RuleInvalid:
            return False
        taken = ":" in tag or self.source.takes_tag(tag) or (self.referrers and is_companion(tag))
        return named and taken and self.source.takes_name(copied.repository)

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
class Copied:
    """What stands for `reference` of `repository` at the destination. `made`: by the rule; otherwise it was there.
    `place`: the endpoint that has it, `HERE` for us.
    """

    rule_id: str
    destination: str
    repository: str
    reference: str
    place: str
    digest: str
    made: bool


@dataclass(frozen=True, slots=True)
class Claimed:
    """A task to do now, with what it needs; `lease` names this attempt."""

    task: Task
    rule: Rule
    endpoint: OtherRegistry
    lease: str


def retry_seconds(attempts: int, wait: float, chance: float) -> float:
    """After that many attempts: capped exponential with full jitter by `chance` in [0, 1), not before `wait`."""
    return max(wait, 1.0 + min(_RETRY_CAP_SECONDS, 2.0 ** min(attempts, 30)) * chance)
