"""Instances over a real swarm and real tables, with a registry and tenants standing in."""

from __future__ import annotations

import pytest

from common.clock import ManualClock
from control_plane.database import Database
from control_plane.fleet.assigning import LayeredAssignments
from control_plane.instances.assignments import InstanceAssignments
from control_plane.instances.reading import InstanceReading
from control_plane.instances.service import InstanceService
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
def reading(database: Database, swarm: SwarmService) -> InstanceReading:
    return InstanceReading(database, swarm)


@pytest.fixture
def service(
    database: Database,
    clock: ManualClock,
    shelf: Shelf,
    tenants: Tenants,
    swarm: SwarmService,
    reading: InstanceReading,
) -> InstanceService:
    shelf.put_image(WEB, b"base", b"web")
    return InstanceService(database, clock, shelf, tenants, swarm, reading)


@pytest.fixture
def assignments(database: Database, tokens: ContentTokens, swarm: SwarmService) -> LayeredAssignments:
    return LayeredAssignments(database, InstanceAssignments(database, tokens, swarm))
