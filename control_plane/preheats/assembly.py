"""Preheats, wired; what the composition root asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common.clock import Clock
from control_plane.database import Database
from control_plane.fleet.desired import AssignmentLayer
from control_plane.instances.service import ImageResolver
from control_plane.jobs.running import Handler
from control_plane.preheats import jobs
from control_plane.preheats.assignments import PreheatAssignments
from control_plane.preheats.reading import PreheatReading
from control_plane.preheats.service import PreheatService
from control_plane.swarm.assembly import Swarm
from control_plane.swarm.visibility import TenantDirectory


@dataclass(frozen=True)
class Preheats:
    """`assignments`: what the fleet tells hosts, those of instances included."""

    service: PreheatService
    reading: PreheatReading
    assignments: PreheatAssignments
    handlers: Mapping[str, Handler]


def build_preheats(
    database: Database,
    clock: Clock,
    images: ImageResolver,
    tenants: TenantDirectory,
    swarm: Swarm,
    instances: AssignmentLayer,
) -> Preheats:
    service = PreheatService(database, clock, images, tenants, swarm.service)
    return Preheats(
        service=service,
        reading=PreheatReading(database),
        assignments=PreheatAssignments(instances, database, swarm.tokens),
        handlers=jobs.build_handlers(service),
    )
