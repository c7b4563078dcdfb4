"""Wire models of `/api/v1/machines` and `/install-tasks`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from control_plane.machines.answers.model import Network
from control_plane.machines.model import (
    BootSettings,
    Firmware,
    Inventory,
    Machine,
    MachineState,
    TimelineEvent,
    WithoutIntent,
)
from control_plane.machines.reading import IdcStatistics
from control_plane.machines.service import Description, NewMachine
from control_plane.machines.tasks import Approval
from control_plane.machines.tasks_model import HistoryEntry, InstallTask, LogLine, StepPhase, TaskState

NO_NUL = "^[^\\x00]*$"
Name = Annotated[str, Field(max_length=300, pattern=NO_NUL)]
Line = Annotated[str, Field(max_length=1000, pattern=NO_NUL)]


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BootBody(Asked):
    firmware: Firmware = Field(default=Firmware.AUTOMATIC, description="empty: as the machine says itself")
    loader: Line = Field(default="", description="its first file, a path below /static of the regional")
    arguments: Line = Field(default="", description="appended to every kernel's arguments")
    without_intent: WithoutIntent = Field(
        default=WithoutIntent.REGIONAL, description="what it boots when nothing is to be installed"
    )

    def settings(self) -> BootSettings:
        return BootSettings(self.firmware, self.loader, self.arguments, self.without_intent)


class MachineBody(Asked):
    idc: Name
    macs: Annotated[list[Name], Field(min_length=1, max_length=32)] = Field(examples=[["52:54:00:12:34:56"]])
    name: Name = Field(default="", description="host name; made of the first MAC address if left out")
    serial: Name = Field(default="", description="as its firmware says; checked before anything is installed")
    tenant: Name = Field(default="", description="empty: the platform's")
    tags: Annotated[list[Name], Field(max_length=64)] = Field(default_factory=list)
    notes: Annotated[str, Field(max_length=4000, pattern=NO_NUL)] = ""
    boot: BootBody = Field(default_factory=BootBody)
    network: Network | None = Field(default=None, description="in place of its profiles'")
    variables: Annotated[dict[str, Line], Field(max_length=64)] = Field(default_factory=dict)

    def wish(self) -> NewMachine:
        return NewMachine(
            idc=self.idc,
            macs=self.macs,
            name=self.name,
            serial=self.serial,
            tenant=self.tenant,
            tags=self.tags,
            notes=self.notes,
            boot=self.boot.settings(),
            network=self.network,
            variables=self.variables,
        )


class DescriptionBody(Asked):
    """What shall be different; what is left out stays."""

    name: Name | None = None
    serial: Name | None = None
    macs: Annotated[list[Name], Field(min_length=1, max_length=32)] | None = None
    tags: Annotated[list[Name], Field(max_length=64)] | None = None
    notes: Annotated[str, Field(max_length=4000, pattern=NO_NUL)] | None = None
    boot: BootBody | None = None
    network: Network | None = Field(default=None, description="without interfaces: none of its own any more")
    variables: Annotated[dict[str, Line], Field(max_length=64)] | None = None

    def wish(self) -> Description:
        return Description(
            name=self.name,
            serial=self.serial,
            macs=self.macs,
            tags=self.tags,
            notes=self.notes,
            boot=None if self.boot is None else self.boot.settings(),
            network=self.network,
            variables=self.variables,
        )


class AssignmentBody(Asked):
    tenant: Name = Field(description="empty: back to the platform")


class MachineView(BaseModel):
    id: str
    idc: str
    name: str
    state: MachineState
    tenant: str = Field(description="empty: the platform's")
    macs: list[str]
    serial: str
    uuid: str
    tags: list[str]
    notes: str
    boot: BootBody
    network: Network | None
    variables: dict[str, str]
    address: str = Field(description="that it was last seen with")
    architecture: str
    inventory: Inventory | None
    inventory_at: datetime | None
    created_at: datetime
    seen_at: datetime | None
    installed: str = Field(description="what was put on it last: profile@version")
    installed_at: datetime | None


class EventView(BaseModel):
    at: datetime
    stage: str
    detail: str
    trouble: bool


class AskBody(Asked):
    machine: Name = Field(description="id or idc/name")
    profile: Name = Field(description="id, tenant/name, or the name of one of the platform's")
    version: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="the newest if left out"
    )


class ApprovalBody(Asked):
    window_seconds: float = Field(
        default=86400.0, ge=60, le=30 * 86400, description="within which the machine must begin"
    )
    retries: int = Field(default=0, ge=0, le=5, description="further tries after a failure; each may wipe again")
    power: bool = Field(default=False, description="restart it into the network by its BMC, if it has one")

    def approval(self) -> Approval:
        return Approval(timedelta(seconds=self.window_seconds), self.retries, self.power)


class ReasonBody(Asked):
    reason: Line = ""


class StepView(BaseModel):
    id: str
    what: str
    phase: StepPhase
    percent: int
    detail: str
    started_at: datetime | None
    ended_at: datetime | None


class TaskView(BaseModel):
    id: str
    machine_id: str
    idc: str
    tenant: str
    profile_id: str
    profile: str
    version: int
    state: TaskState
    presumed: bool = Field(description="it failed because nothing was heard of it; later words still count")
    percent: int
    attempt: int
    retries: int
    steps: list[StepView]
    detail: str
    images: dict[str, str] = Field(description="manifest by use, as the tags meant it when it was asked for")
    created_by: str
    created_at: datetime
    approved_by: str
    since: datetime = Field(description="when it came into its state")
    begin_by: datetime | None
    ended_at: datetime | None


class HistoryView(BaseModel):
    number: int
    at: datetime
    state: TaskState
    attempt: int
    by: str = Field(description="empty: the machine, or time")
    detail: str


class LogView(BaseModel):
    number: int
    at: datetime
    attempt: int
    step: str
    text: str


class StatisticsView(BaseModel):
    idc: str
    machines: dict[MachineState, int]
    tasks: dict[TaskState, int] = Field(description="those that are not over")
    ended: dict[TaskState, int] = Field(description="in the last 30 days")
    median_seconds: float | None = Field(description="that completed installations took in these days")


def machine_view(machine: Machine) -> MachineView:
    boot = machine.boot
    return MachineView(
        id=machine.id,
        idc=machine.idc,
        name=machine.name,
        state=machine.state,
        tenant=machine.tenant,
        macs=list(machine.macs),
        serial=machine.serial,
        uuid=machine.uuid,
        tags=list(machine.tags),
        notes=machine.notes,
        boot=BootBody(
            firmware=boot.firmware, loader=boot.loader, arguments=boot.arguments, without_intent=boot.without_intent
        ),
        network=machine.network,
        variables=dict(machine.variables),
        address=machine.address,
        architecture=machine.architecture,
        inventory=machine.inventory,
        inventory_at=machine.inventory_at,
        created_at=machine.created_at,
        seen_at=machine.seen_at,
        installed=machine.installed,
        installed_at=machine.installed_at,
    )


def event_view(event: TimelineEvent) -> EventView:
    return EventView(at=event.at, stage=event.stage, detail=event.detail, trouble=event.trouble)


def task_view(task: InstallTask) -> TaskView:
    return TaskView(
        id=task.id,
        machine_id=task.machine_id,
        idc=task.idc,
        tenant=task.tenant,
        profile_id=task.profile_id,
        profile=task.profile,
        version=task.version,
        state=task.state,
        presumed=task.presumed,
        percent=task.percent,
        attempt=task.attempt,
        retries=task.retries,
        steps=[
            StepView(
                id=step.id,
                what=step.what,
                phase=step.phase,
                percent=step.percent,
                detail=step.detail,
                started_at=step.started_at,
                ended_at=step.ended_at,
            )
            for step in task.steps
        ],
        detail=task.detail,
        images={use: image.manifest for use, image in task.images.items()},
        created_by=task.created_by,
        created_at=task.created_at,
        approved_by=task.approved_by,
        since=task.since,
        begin_by=task.begin_by,
        ended_at=task.ended_at,
    )


def history_view(entry: HistoryEntry) -> HistoryView:
    return HistoryView(
        number=entry.number, at=entry.at, state=entry.state, attempt=entry.attempt, by=entry.by, detail=entry.detail
    )


def log_view(line: LogLine) -> LogView:
    return LogView(number=line.number, at=line.at, attempt=line.attempt, step=line.step, text=line.text)


def statistics_view(found: IdcStatistics) -> StatisticsView:
    return StatisticsView(
        idc=found.idc,
        machines=found.machines,
        tasks=found.tasks,
        ended=found.ended,
        median_seconds=found.median_seconds,
    )
