"""Taking an instance away for good: its row, its status, its wants, in one unit of work."""

from __future__ import annotations

from control_plane.database import UnitOfWork
from control_plane.fleet.waking import wake
from control_plane.instances import store
from control_plane.instances.messages import InstanceForgotten
from control_plane.instances.model import Wish
from control_plane.swarm.service import SwarmService


async def forget(unit: UnitOfWork, instance: Wish, swarm: SwarmService, *, host_exists: bool = True) -> None:
    """The host's next set no longer names it, so whatever the host still has of it is removed there."""
    await store.remove(unit.connection, instance.id)
    if host_exists:
        await wake(unit, [instance.host_id])
    await swarm.release(unit, instance.id)
    await unit.announce(InstanceForgotten(instance.id, instance.tenant_id, instance.host_id))
