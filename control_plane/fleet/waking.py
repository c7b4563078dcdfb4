"""A new generation of what hosts shall do, and the word that wakes their streams: for every domain that changes it.

Invariant: both commit with the change itself. Hosts are touched in the order of their ids, here and everywhere:
transactions that touch several never wait in a circle.
"""

from __future__ import annotations

from collections.abc import Collection

from control_plane.database import UnitOfWork
from control_plane.fleet import store
from control_plane.fleet.messages import AssignmentsChanged


async def wake(unit: UnitOfWork, host_ids: Collection[str]) -> None:
    """In a handful of statements, however many they are. Raises `HostUnknown`."""
    if host_ids:
        await unit.announce(AssignmentsChanged.of(await store.bump_assignments(unit.connection, host_ids)))
