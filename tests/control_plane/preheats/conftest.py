"""Preheats over a real swarm, real instances and real tables, with a registry and tenants standing in."""

from __future__ import annotations

import pytest

from common.clock import ManualClock
from control_plane.database import Database
from control_plane.fleet.assigning import LayeredAssignments
from control_plane.instances.assignments import InstanceAssignments
from control_plane.instances.reading import InstanceReading
from control_plane.instances.service import InstanceService
from control_plane.preheats.assignments import PreheatAssignments
from control_plane.preheats.reading import PreheatReading
from control_plane.preheats.service import PreheatService
from control_plane.swarm.service import SwarmService
from control_plane.swarm.tokens import ContentTokens
from tests.control_plane.instances.parts import WEB
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
)
from tests.control_plane.swarm.parts import Shelf, Tenants

__all__ = ["box", "egress", "fleet", "jobs", "keys", "members", "metrics", "shelf", "swarm", "tenants", "tokens"]


@pytest.fixture
def preheats(
    database: Database, clock: ManualClock, shelf: Shelf, tenants: Tenants, swarm: SwarmService
) -> PreheatService:
    shelf.put_image(WEB, b"base", b"web")
    return PreheatService(database, clock, shelf, tenants, swarm)


@pytest.fixture
def reading(database: Database) -> PreheatReading:
    return PreheatReading(database)


@pytest.fixture
def assignments(database: Database, tokens: ContentTokens, swarm: SwarmService) -> LayeredAssignments:
    return LayeredAssignments(
        database, PreheatAssignments(InstanceAssignments(database, tokens, swarm), database, tokens)
    )


@pytest.fixture
def instances(
    database: Database, clock: ManualClock, shelf: Shelf, tenants: Tenants, swarm: SwarmService
) -> InstanceService:
    return InstanceService(database, clock, shelf, tenants, swarm, InstanceReading(database, swarm))
