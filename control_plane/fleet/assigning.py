"""What hosts are told to run: the layers of all domains, read together.

Invariant: all layers of a snapshot are read in one moment of the database, generation included. Hosts that ask at the
same time are answered by one reading: a change of a whole fleet wakes all its streams at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from common.errors import Failure
from common.gathering import Gathering
from control_plane.database import Database
from control_plane.fleet import store_members
from control_plane.fleet.desired import Asked, AssignmentLayer, AssignmentSnapshot
from proto.agent.v1 import agent_pb2

Found = TypeVar("Found")


def overlaid(
    asked: Sequence[Asked],
    told: Sequence[AssignmentSnapshot | Failure],
    found: Mapping[str, Found],
    over: Callable[[AssignmentSnapshot, Asked, Found], AssignmentSnapshot],
) -> list[AssignmentSnapshot | Failure]:
    """What the layer beneath told, and `over` it what was found for some of the hosts, by their ids."""
    return [
        over(snapshot, one, found[one.host_id])
        if one.host_id in found and not isinstance(snapshot, Failure)
        else snapshot
        for one, snapshot in zip(asked, told, strict=True)
    ]


class LayeredAssignments:
    """Implements `fleet.desired.AssignmentSource`. `top` is the last layer, which knows those beneath it.
    `step_seconds`: as in `Gathering`.
    """

    def __init__(self, database: Database, top: AssignmentLayer, step_seconds: float = 0.0) -> None:
        self._database = database
        self._top = top
        self._asking = Gathering(self._assigned, step_seconds=step_seconds)

    async def assignments(
        self, host_id: str, held: Mapping[str, agent_pb2.Assignment] | None = None
    ) -> AssignmentSnapshot:
        """Raises `HostUnknown`."""
        return await self._asking.ask(Asked(host_id, held))

    async def accept_reports(
        self,
        host_id: str,
        instances: Sequence[agent_pb2.InstanceReport],
        contents: Sequence[agent_pb2.ContentReport],
    ) -> None:
        await self._top.accept_reports(host_id, instances, contents)

    async def _assigned(self, asked: Sequence[Asked]) -> Sequence[AssignmentSnapshot | Failure]:
        async with self._database.reading() as connection:
            able = await store_members.taking_image_tokens(connection, {one.host_id for one in asked})
            return await self._top.assigned(connection, [replace(one, together=one.host_id in able) for one in asked])
