"""Install tasks: what is asked for, how far it is, and what became of it; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from common.errors import Conflict, NotFound


class TaskUnknown(NotFound):
    code = "install_task_unknown"


class TaskOver(Conflict):
    """It is in a state from which this cannot be done."""

    code = "install_task_state"


class TaskState(StrEnum):
    PENDING = "pending"  # asked for; nobody approved it
    APPROVED = "approved"  # the machine may begin when it boots next
    REJECTED = "rejected"
    BOOTING = "booting"  # its boot script was handed out
    INSTALLING = "installing"  # the installer runs
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepPhase(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """`weight`: its share of the whole. `percent`: of itself."""

    id: str
    what: str
    weight: int = 1
    phase: StepPhase = StepPhase.WAITING
    percent: int = 0
    detail: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TaskImage:
    """An image as it was when the task was asked for: (digest, size in bytes, media type) of each content."""

    reference: str
    manifest: str
    contents: tuple[tuple[str, int, str], ...]


@dataclass(frozen=True, slots=True)
class InstallTask:
    """`intent_id` "": none was ever given. `attempt` counts intents. `begun`: its present intent was heard to be
    used. `presumed`: it failed because nothing was heard of
    it; what the machine says later still counts. `retries`: further tries that its approval allows.
    """

    id: str
    machine_id: str
    idc_id: str
    idc: str
    tenant_id: str
    tenant: str
    profile_id: str
    profile: str
    version: int
    state: TaskState
    created_by: str
    created_at: datetime
    since: datetime
    images: Mapping[str, TaskImage] = field(default_factory=dict)
    content_tenant_id: str = ""
    approved_by: str = ""
    attempt: int = 0
    retries: int = 0
    intent_id: str = ""
    begun: bool = False
    presumed: bool = False
    steps: tuple[Step, ...] = ()
    detail: str = ""
    begin_by: datetime | None = None
    silent_after: datetime | None = None
    ended_at: datetime | None = None
    log_lines: int = 0
    longest_seconds: int = 7200

    @property
    def percent(self) -> int:
        """Of the whole, by the weights of the steps."""
        if self.state is TaskState.COMPLETED:
            return 100
        whole = sum(step.weight for step in self.steps)
        done = sum(step.weight * step.percent for step in self.steps)
        return min(99, done // whole) if whole else 0


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One move of a task. `by` "": nobody's; the machine, or time."""

    number: int
    at: datetime
    state: TaskState
    attempt: int
    by: str
    detail: str


@dataclass(frozen=True, slots=True)
class LogLine:
    number: int
    at: datetime
    attempt: int
    step: str
    text: str
