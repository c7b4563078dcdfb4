"""Rollouts over a real swarm and real tables, with a registry and tenants standing in."""

from __future__ import annotations

import pytest

from common.clock import ManualClock
from control_plane.agent_rollouts.assignments import AgentRolloutAssignments
from control_plane.agent_rollouts.reading import AgentRolloutReading
from control_plane.agent_rollouts.service import AgentRolloutService
from control_plane.database import Database
from control_plane.fleet.assigning import LayeredAssignments
from control_plane.fleet.liveness import horizons
from control_plane.instances.assignments import InstanceAssignments
from control_plane.swarm.service import SwarmService
from control_plane.swarm.tokens import ContentTokens
from tests.control_plane.agent_rollouts.hosts import AGENT
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
def rollouts(
    database: Database, clock: ManualClock, shelf: Shelf, tenants: Tenants, swarm: SwarmService
) -> AgentRolloutService:
    shelf.put_image(AGENT, b"agent", b"of 1.4")
    look = horizons(clock, 10.0, 0.0)
    clock.tick(3600)  # so that the control plane did not start a moment ago
    return AgentRolloutService(database, clock, shelf, tenants, swarm, look)


@pytest.fixture
def reading(database: Database) -> AgentRolloutReading:
    return AgentRolloutReading(database)


@pytest.fixture
def assignments(database: Database, tokens: ContentTokens, swarm: SwarmService) -> LayeredAssignments:
    return LayeredAssignments(
        database, AgentRolloutAssignments(InstanceAssignments(database, tokens, swarm), database, tokens)
    )
