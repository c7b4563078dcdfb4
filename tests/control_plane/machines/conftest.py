"""Bare metal over real tables, a real swarm and real tokens, with a registry and tenants standing in."""

from __future__ import annotations

import random

import pytest

from common.clock import ManualClock
from control_plane.audit.service import AuditTrail
from control_plane.database import Database
from control_plane.events.memory import MemoryEventBus
from control_plane.machines.assembly import Machines, build_machines
from control_plane.sealing import SealedBox
from control_plane.swarm.service import SwarmService
from control_plane.swarm.tokens import ContentTokens
from tests.control_plane.machines.rack import BOOT_IMAGE, SYSTEM_IMAGE, Rack
from tests.control_plane.swarm.fixtures import (
    box,
    egress,
    fleet,
    jobs,
    keys,
    members,
    metrics,
    shelf,
    swarm,
    tenants,
    tokens,
    trail,
)
from tests.control_plane.swarm.parts import Shelf, Tenants

__all__ = [
    "box",
    "egress",
    "fleet",
    "jobs",
    "keys",
    "members",
    "metrics",
    "shelf",
    "swarm",
    "tenants",
    "tokens",
    "trail",
]


@pytest.fixture
def bus() -> MemoryEventBus:
    return MemoryEventBus()


@pytest.fixture
def machines(
    database: Database,
    clock: ManualClock,
    box: SealedBox,
    bus: MemoryEventBus,
    shelf: Shelf,
    tenants: Tenants,
    swarm: SwarmService,
    tokens: ContentTokens,
    trail: AuditTrail,
) -> Machines:
    shelf.put_image(BOOT_IMAGE, b"kernel", b"initrd one", b"initrd two")
    shelf.put_image(SYSTEM_IMAGE, b"a disk's bytes")
    return build_machines(database, clock, box, bus, shelf, tenants, swarm, tokens, trail, random.Random(1).random)


@pytest.fixture
def rack(fleet: None, machines: Machines, database: Database, clock: ManualClock) -> Rack:
    """IDC east with regional er, IDC west with regional wr."""
    return Rack(machines, database, clock)
