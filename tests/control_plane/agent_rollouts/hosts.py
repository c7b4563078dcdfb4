"""Hosts that are there or away, and what they say."""

from __future__ import annotations

from collections.abc import Collection

from common.clock import ManualClock
from control_plane.database import Database
from control_plane.fleet import store_members
from control_plane.fleet.assigning import LayeredAssignments
from proto.agent.v1 import agent_pb2
from tests.control_plane.swarm.parts import add_host

AGENT = "acme/agent:1.4"


async def join(database: Database, names: Collection[str], idc: str = "east") -> None:
    for name in names:
        await add_host(database, idc, name)


async def seen(database: Database, clock: ManualClock, *host_ids: str) -> None:
    """These hosts are attached, and were heard of now."""
    async with database.transaction() as unit:
        for host_id in host_ids:
            await store_members.change(
                unit.connection, "host", host_id, session_id=f"s-{host_id}", last_seen_at=clock.now()
            )


async def left(database: Database, *host_ids: str) -> None:
    async with database.transaction() as unit:
        for host_id in host_ids:
            await store_members.change(unit.connection, "host", host_id, session_id=None)


async def says(
    assignments: LayeredAssignments,
    host_id: str,
    phase: agent_pb2.Phase.ValueType = agent_pb2.PHASE_RUNNING,
    detail: str = "",
) -> None:
    """What the host reports of the version that it was told to run."""
    told = (await assignments.assignments(host_id)).assignments
    (wish,) = [one for one in told.values() if one.HasField("agent_update")]
    report = agent_pb2.InstanceReport(
        instance_id=wish.instance_id, generation=wish.agent_update.order, phase=phase, detail=detail
    )
    await assignments.accept_reports(host_id, [report], [])
