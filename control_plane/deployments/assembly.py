"""Deployments, wired; what the composition root asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from common.clock import Clock
from control_plane.audit.service import AuditTrail
from control_plane.database import Database
from control_plane.deployments.converging import Converging
from control_plane.deployments.noticing import Noticing
from control_plane.deployments.reading import DeploymentReading
from control_plane.deployments.rollouts import RolloutService
from control_plane.deployments.service import DeploymentService
from control_plane.fleet.liveness import Horizon
from control_plane.fleet.placement.service import HostPlaces
from control_plane.fleet.service import Fleet
from control_plane.instances.service import ImageResolver
from control_plane.swarm.service import SwarmService
from control_plane.swarm.visibility import TenantDirectory


@dataclass(frozen=True)
class Deployments:
    """`converging` runs for the whole life of a process that works, `noticing` where the relay does."""

    service: DeploymentService
    rollouts: RolloutService
    reading: DeploymentReading
    converging: Converging
    noticing: Noticing
    places: HostPlaces


def build_deployments(
    database: Database,
    clock: Clock,
    images: ImageResolver,
    tenants: TenantDirectory,
    swarm: SwarmService,
    fleet: Fleet,
    trail: AuditTrail,
    chance: Callable[[], float],
) -> Deployments:
    look: Callable[[], Horizon] = fleet.members.look
    converging = Converging(database, clock, swarm, look, chance)
    reading = DeploymentReading(database, fleet.members, look)
    return Deployments(
        service=DeploymentService(database, clock, images, tenants, converging, trail),
        rollouts=RolloutService(database, reading, images, converging, trail),
        reading=reading,
        converging=converging,
        noticing=Noticing(database, clock, converging),
        places=HostPlaces(database, fleet.members, trail),
    )
