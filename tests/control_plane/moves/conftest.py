"""Moves over a real swarm and real tables, with two hosts that do what they are told when the test lets them."""

from __future__ import annotations

import random

import pytest

from common.clock import ManualClock
from control_plane.audit.service import AuditTrail
from control_plane.database import Database
from control_plane.fleet.hosts import Members
from control_plane.instances.assignments import InstanceAssignments
from control_plane.instances.reading import InstanceReading
from control_plane.instances.service import InstanceService
from control_plane.moves.assignments import MoveAssignments
from control_plane.moves.carrying import Carrying
from control_plane.moves.service import MoveService
from control_plane.swarm.service import SwarmService
from control_plane.swarm.tokens import ContentTokens
from tests.control_plane.moves.parts import Fleet, put_lxd_image
from tests.control_plane.swarm.fixtures import box, egress, jobs, keys, members, metrics, shelf, swarm, tenants, tokens
from tests.control_plane.swarm.parts import Shelf, Tenants, add_idc

__all__ = ["box", "egress", "jobs", "keys", "members", "metrics", "shelf", "swarm", "tenants", "tokens"]


@pytest.fixture
def carrying(database: Database, clock: ManualClock, swarm: SwarmService, members: Members) -> Carrying:
    return Carrying(database, clock, swarm, members.look, random.Random(1).random)


@pytest.fixture
def service(
    database: Database, clock: ManualClock, members: Members, swarm: SwarmService, carrying: Carrying
) -> MoveService:
    reading = InstanceReading(database, swarm)
    return MoveService(database, clock, reading, members, carrying, AuditTrail(database, clock))


@pytest.fixture
def instances(
    database: Database, clock: ManualClock, shelf: Shelf, tenants: Tenants, swarm: SwarmService
) -> InstanceService:
    put_lxd_image(shelf)
    return InstanceService(database, clock, shelf, tenants, swarm, InstanceReading(database, swarm))


@pytest.fixture
async def fleet(
    database: Database, clock: ManualClock, tokens: ContentTokens, swarm: SwarmService, carrying: Carrying
) -> Fleet:
    """IDC east with hosts e1 and e2, IDC west with w1: all with LXD, attached."""
    assignments = MoveAssignments(InstanceAssignments(database, tokens, swarm), database, tokens)
    made = Fleet(database, clock, assignments, carrying)
    for idc, names in (("east", ("e1", "e2")), ("west", ("w1",))):
        await add_idc(database, idc)
        for name in names:
            await made.host(idc, name)
    return made
