"""Rollouts of the agent, wired; what the composition root asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common.clock import Clock
from control_plane.agent_rollouts import jobs
from control_plane.agent_rollouts.assignments import AgentRolloutAssignments
from control_plane.agent_rollouts.reading import AgentRolloutReading
from control_plane.agent_rollouts.service import AgentRolloutService
from control_plane.database import Database
from control_plane.fleet.desired import AssignmentLayer
from control_plane.fleet.liveness import Horizon
from control_plane.instances.service import ImageResolver
from control_plane.jobs.running import Handler
from control_plane.swarm.assembly import Swarm
from control_plane.swarm.visibility import TenantDirectory


@dataclass(frozen=True)
class AgentRollouts:
    """`assignments`: what the fleet tells hosts, everything that `inner` told them included."""

    service: AgentRolloutService
    reading: AgentRolloutReading
    assignments: AgentRolloutAssignments
    handlers: Mapping[str, Handler]


def build_agent_rollouts(
    database: Database,
    clock: Clock,
    images: ImageResolver,
    tenants: TenantDirectory,
    swarm: Swarm,
    look: Callable[[], Horizon],
    inner: AssignmentLayer,
) -> AgentRollouts:
    service = AgentRolloutService(database, clock, images, tenants, swarm.service, look)
    return AgentRollouts(
        service=service,
        reading=AgentRolloutReading(database),
        assignments=AgentRolloutAssignments(inner, database, swarm.tokens),
        handlers=jobs.build_handlers(service),
    )
