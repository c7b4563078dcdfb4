"""Bare metal, wired; what the composition root asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from common.clock import Clock
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, UnitOfWork
from control_plane.events import EventBus
from control_plane.jobs.running import Handler
from control_plane.machines import jobs, store, store_profiles
from control_plane.machines.arming import Arming
from control_plane.machines.enlisting import Enlisting
from control_plane.machines.images import ImageResolver, Images
from control_plane.machines.live import Live
from control_plane.machines.power.orders import PowerOrders
from control_plane.machines.power.service import PowerService
from control_plane.machines.profiles import ProfileService, Specs
from control_plane.machines.reading import MachineReading
from control_plane.machines.receiving import Receiving
from control_plane.machines.service import MachineService
from control_plane.machines.targets import BootTargets
from control_plane.machines.tasks import TaskService
from control_plane.sealing import SealedBox
from control_plane.swarm.service import SwarmService
from control_plane.swarm.tokens import ContentTokens
from control_plane.swarm.visibility import TenantDirectory

TASKS_KEPT = timedelta(days=365)


@dataclass(frozen=True)
class Machines:
    """`targets`: what the fleet tells regionals, and asks when they report. `live` runs as long as the process."""

    service: MachineService
    reading: MachineReading
    profiles: ProfileService
    tasks: TaskService
    receiving: Receiving
    targets: BootTargets
    power: PowerService
    live: Live
    handlers: Mapping[str, Handler]


def build_machines(
    database: Database,
    clock: Clock,
    box: SealedBox,
    bus: EventBus,
    images: ImageResolver,
    tenants: TenantDirectory,
    swarm: SwarmService,
    tokens: ContentTokens,
    trail: AuditTrail,
    random: Callable[[], float],
) -> Machines:
    specs = Specs(box)
    profiles = ProfileService(database, clock, tenants, specs, trail)
    arming = Arming(box, specs, swarm)
    power = PowerOrders(database, clock, box)
    receiving = Receiving(database, clock, Enlisting(clock), arming, power)
    tasks = TaskService(database, clock, Images(images, tenants), profiles, arming, power, trail)
    return Machines(
        service=MachineService(database, clock, tenants, trail),
        reading=MachineReading(database, clock),
        profiles=profiles,
        tasks=tasks,
        receiving=receiving,
        targets=BootTargets(database, tokens, arming, receiving, power),
        power=PowerService(database, clock, power, trail),
        live=Live(bus, clock, random),
        handlers=jobs.build_handlers(tasks, receiving, power, TASKS_KEPT),
    )


async def tenant_in_use(unit: UnitOfWork, tenant_id: str) -> str | None:
    """For `tenants`, which asks before it deletes one: a later tenant of the same name must not find them."""
    machines = await store.of_tenant(unit.connection, tenant_id)
    profiles = await store_profiles.of_tenant(unit.connection, tenant_id)
    held = [f"{count} {what}" for count, what in ((machines, "machines"), (profiles, "profiles")) if count]
    return " and ".join(held) or None
