"""Commands, wired; what the composition root asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common.clock import Clock
from control_plane.audit.service import AuditTrail
from control_plane.commands import jobs
from control_plane.commands.messenger import CommandMessenger
from control_plane.commands.service import CommandService
from control_plane.commands.snapshots import Snapshots
from control_plane.database import Database
from control_plane.events import EventBus
from control_plane.fleet.service import Fleet
from control_plane.instances.reading import InstanceReading
from control_plane.jobs.running import Handler


@dataclass(frozen=True)
class Commands:
    """`messenger` runs as long as the process has streams."""

    service: CommandService
    snapshots: Snapshots
    messenger: CommandMessenger
    handlers: Mapping[str, Handler]


def build_commands(
    database: Database,
    bus: EventBus,
    fleet: Fleet,
    instances: InstanceReading,
    trail: AuditTrail,
    clock: Clock,
    chance: Callable[[], float],
) -> Commands:
    service = CommandService(database, clock, fleet.members, instances, trail)
    messenger = CommandMessenger(service, bus, fleet.sessions, clock, chance)
    return Commands(service, Snapshots(service, clock), messenger, jobs.build_handlers(service))
