"""Commands over real tables, with instances on hosts."""

from __future__ import annotations

import pytest

from common.clock import ManualClock
from control_plane.audit.service import AuditTrail
from control_plane.commands.service import CommandService
from control_plane.database import Database
from control_plane.fleet.hosts import Members
from control_plane.instances.reading import InstanceReading
from control_plane.instances.service import InstanceService
from control_plane.swarm.service import SwarmService
from tests.control_plane.instances.parts import OPERATOR, WEB, run_request
from tests.control_plane.swarm.fixtures import box as box
from tests.control_plane.swarm.fixtures import fleet, jobs, keys, members, metrics, shelf, swarm, tenants, tokens
from tests.control_plane.swarm.parts import Shelf, Tenants

__all__ = ["fleet", "jobs", "keys", "members", "metrics", "shelf", "swarm", "tenants", "tokens"]


@pytest.fixture
def service(database: Database, clock: ManualClock, members: Members, swarm: SwarmService) -> CommandService:
    reading = InstanceReading(database, swarm)
    return CommandService(database, clock, members, reading, AuditTrail(database, clock))


@pytest.fixture
async def instance_id(
    fleet: None, database: Database, clock: ManualClock, shelf: Shelf, tenants: Tenants, swarm: SwarmService
) -> str:
    shelf.put_image(WEB, b"base", b"web")
    instances = InstanceService(database, clock, shelf, tenants, swarm, InstanceReading(database, swarm))
    return (await instances.run(OPERATOR, run_request("east/e1")))[0].instance.id
