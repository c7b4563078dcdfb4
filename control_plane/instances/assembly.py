"""Instances, wired; what the composition root asks for."""

from __future__ import annotations

from dataclasses import dataclass

from common.clock import Clock
from control_plane.database import Database
from control_plane.fleet.service import Fleet
from control_plane.instances.assignments import InstanceAssignments
from control_plane.instances.overview import FleetOverview
from control_plane.instances.reading import InstanceReading
from control_plane.instances.service import ImageResolver, InstanceService
from control_plane.swarm.assembly import Swarm
from control_plane.swarm.visibility import TenantDirectory


@dataclass(frozen=True)
class Instances:
    """`assignments`: the lowest layer of what the fleet tells hosts."""

    service: InstanceService
    reading: InstanceReading
    assignments: InstanceAssignments
    overview: FleetOverview


def build_instances(
    database: Database, clock: Clock, images: ImageResolver, tenants: TenantDirectory, swarm: Swarm, fleet: Fleet
) -> Instances:
    reading = InstanceReading(database, swarm.service)
    return Instances(
        service=InstanceService(database, clock, images, tenants, swarm.service, reading, fleet.sessions.give_way),
        reading=reading,
        assignments=InstanceAssignments(database, swarm.tokens, swarm.service),
        overview=FleetOverview(database, fleet.members, swarm.overview),
    )
