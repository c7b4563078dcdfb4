"""What bare metal announces; live views follow these, and ask again for what they show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from control_plane.database.messages import Message


@dataclass(frozen=True, slots=True)
class MachineChanged(Message):
    """It was seen for the first time, accepted, described, assigned, or removed (`what`)."""

    topic: ClassVar[str] = "machines.machine_changed"
    machine_id: str
    idc: str
    tenant: str
    name: str
    state: str
    what: str


@dataclass(frozen=True, slots=True)
class MachineBooted(Message):
    """A line of a machine's boot timeline."""

    topic: ClassVar[str] = "machines.boot_event"
    machine_id: str
    idc: str
    tenant: str
    name: str
    stage: str
    detail: str
    trouble: bool


@dataclass(frozen=True, slots=True)
class InstallChanged(Message):
    """An install task moved, or one of its steps did."""

    topic: ClassVar[str] = "machines.install_changed"
    task_id: str
    machine_id: str
    idc: str
    tenant: str
    machine: str
    state: str
    percent: int
    step: str
    detail: str
