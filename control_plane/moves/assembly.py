"""Moves, wired; what the composition root asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common.clock import Clock
from control_plane.audit.service import AuditTrail
from control_plane.database import Database
from control_plane.fleet.desired import AssignmentLayer
from control_plane.fleet.service import Fleet
from control_plane.instances.reading import InstanceReading
from control_plane.jobs.running import Handler
from control_plane.moves import jobs
from control_plane.moves.assignments import MoveAssignments
from control_plane.moves.carrying import Carrying
from control_plane.moves.draining import Draining
from control_plane.moves.service import MoveService
from control_plane.swarm.assembly import Swarm


@dataclass(frozen=True)
class Moves:
    """`carrying` and `draining` run for the whole life of a process that works; `assignments` stand over those of
    instances.
    """

    service: MoveService
    carrying: Carrying
    draining: Draining
    assignments: MoveAssignments
    handlers: Mapping[str, Handler]


def build_moves(
    database: Database,
    clock: Clock,
    swarm: Swarm,
    fleet: Fleet,
    reading: InstanceReading,
    inner: AssignmentLayer,
    trail: AuditTrail,
    chance: Callable[[], float],
) -> Moves:
    carrying = Carrying(database, clock, swarm.service, fleet.members.look, chance)
    assignments = MoveAssignments(inner, database, swarm.tokens)
    assignments.changed = carrying.wake
    service = MoveService(database, clock, reading, fleet.members, carrying, trail)
    draining = Draining(database, clock, service, fleet.members.look, chance)
    return Moves(service, carrying, draining, assignments, jobs.build_handlers(service))
