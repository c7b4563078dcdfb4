"""Deployments over a real swarm and real tables, with a registry and tenants standing in."""

from __future__ import annotations

import random

import pytest

from common.clock import ManualClock
from control_plane.audit.service import AuditTrail
from control_plane.database import Database
from control_plane.deployments.converging import Converging
from control_plane.deployments.reading import DeploymentReading
from control_plane.deployments.rollouts import RolloutService
from control_plane.deployments.service import DeploymentService
from control_plane.fleet.assigning import LayeredAssignments
from control_plane.fleet.hosts import Members
from control_plane.fleet.placement.service import HostPlaces
from control_plane.instances.assignments import InstanceAssignments
from control_plane.instances.reading import InstanceReading
from control_plane.instances.service import InstanceService
from control_plane.swarm.service import SwarmService
from control_plane.swarm.tokens import ContentTokens
from tests.control_plane.deployments.parts import Fleet
from tests.control_plane.instances.parts import WEB
from tests.control_plane.swarm.fixtures import box, egress, jobs, keys, members, metrics, shelf, swarm, tenants, tokens
from tests.control_plane.swarm.parts import Shelf, Tenants, add_idc

__all__ = ["box", "egress", "jobs", "keys", "members", "metrics", "shelf", "swarm", "tenants", "tokens"]


@pytest.fixture
def trail(database: Database, clock: ManualClock) -> AuditTrail:
    return AuditTrail(database, clock)


@pytest.fixture
def converging(database: Database, clock: ManualClock, swarm: SwarmService, members: Members) -> Converging:
    return Converging(database, clock, swarm, members.look, random.Random(1).random)


@pytest.fixture
def another_replica(database: Database, clock: ManualClock, swarm: SwarmService, members: Members) -> Converging:
    return Converging(database, clock, swarm, members.look, random.Random(2).random)


@pytest.fixture
def service(
    database: Database,
    clock: ManualClock,
    shelf: Shelf,
    tenants: Tenants,
    converging: Converging,
    trail: AuditTrail,
) -> DeploymentService:
    shelf.put_image(WEB, b"base", b"web")
    return DeploymentService(database, clock, shelf, tenants, converging, trail)


@pytest.fixture
def reading(database: Database, members: Members) -> DeploymentReading:
    return DeploymentReading(database, members, members.look)


@pytest.fixture
def rollouts(
    database: Database, shelf: Shelf, reading: DeploymentReading, converging: Converging, trail: AuditTrail
) -> RolloutService:
    return RolloutService(database, reading, shelf, converging, trail)


@pytest.fixture
def places(database: Database, members: Members, trail: AuditTrail) -> HostPlaces:
    return HostPlaces(database, members, trail)


@pytest.fixture
def instances(
    database: Database, clock: ManualClock, shelf: Shelf, tenants: Tenants, swarm: SwarmService
) -> InstanceService:
    return InstanceService(database, clock, shelf, tenants, swarm, InstanceReading(database, swarm))


@pytest.fixture
async def fleet(
    database: Database, clock: ManualClock, tokens: ContentTokens, swarm: SwarmService, converging: Converging
) -> Fleet:
    """IDC east with hosts e1 and e2, IDC west with w1: 4 CPUs and 8 GiB each, attached."""
    made = Fleet(
        database, clock, LayeredAssignments(database, InstanceAssignments(database, tokens, swarm)), converging
    )
    for idc, names in (("east", ("e1", "e2")), ("west", ("w1",))):
        await add_idc(database, idc)
        for name in names:
            await made.host(idc, name)
    return made
