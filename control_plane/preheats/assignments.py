"""What a host is told to hold for preheats, beside what it is told to run.

Invariant: every change of a preheat counts a new generation of the hosts that it chose, and is read with it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from common.errors import Failure
from common.gathering import Gathering
from control_plane.database import Connection, Database
from control_plane.fleet.assigning import overlaid
from control_plane.fleet.desired import Asked, AssignmentLayer, AssignmentSnapshot
from control_plane.instances.model import HeldImage
from control_plane.instances.wire import MAXIMUM_DETAIL, held_assignment, observation_of, storable
from control_plane.preheats import store
from control_plane.preheats.model import Preheat
from control_plane.preheats.store import Chosen
from control_plane.swarm.tokens import ContentTokens
from control_plane.swarm.wire import EFFORTS
from proto.agent.v1 import agent_pb2

# Hosts whose reports are compared together: 500 ids each (agent/reporter.py) stay below what databases bind.
_MOST_SPEAKERS = 50


class PreheatAssignments:
    """Implements `fleet.desired.AssignmentLayer` over the one of instances. A host knows a preheat by its id, as if it
    were an instance that is only held.
    """

    def __init__(self, inner: AssignmentLayer, database: Database, tokens: ContentTokens) -> None:
        self._inner = inner
        self._database = database
        self._tokens = tokens
        self._comparing = Gathering(self._known, _MOST_SPEAKERS)

    async def assigned(self, connection: Connection, asked: Sequence[Asked]) -> list[AssignmentSnapshot | Failure]:
        told = await self._inner.assigned(connection, asked)
        chosen = await store.of_hosts(connection, {one.host_id for one in asked})
        return overlaid(asked, told, chosen, self._with)

    def _with(self, told: AssignmentSnapshot, asked: Asked, chosen: Sequence[Chosen]) -> AssignmentSnapshot:
        preheated = {
            one.preheat.id: self._assignment(one.preheat, one.architecture, asked, one.idc)
            for one in chosen
            if one.architecture in one.preheat.images
        }
        return AssignmentSnapshot(told.generation, {**told.assignments, **preheated})

    async def _known(self, spoken: Sequence[tuple[str, Collection[str]]]) -> list[dict[str, tuple[str, str]]]:
        async with self._database.reading() as connection:
            found = await store.phases_of(
                connection, {host_id for host_id, _ in spoken}, {one for _, ids in spoken for one in ids}
            )
        return [found[host_id] for host_id, _ in spoken]

    async def accept_reports(
        self,
        host_id: str,
        instances: Sequence[agent_pb2.InstanceReport],
        contents: Sequence[agent_pb2.ContentReport],
    ) -> None:
        await self._inner.accept_reports(host_id, instances, contents)
        said = {
            one.instance_id: (one.phase.value, storable(one.detail, MAXIMUM_DETAIL))
            for report in instances
            if (one := observation_of(report)) is not None
        }
        if not said:
            return
        known = await self._comparing.ask((host_id, said.keys()))
        news = {key: said[key] for key, before in known.items() if key in said and said[key] != before}
        if news:
            async with self._database.transaction() as unit:
                await store.put_phases(unit.connection, host_id, news)

    def _assignment(self, preheat: Preheat, architecture: str, asked: Asked, idc: str) -> agent_pb2.Assignment:
        held = HeldImage(
            id=preheat.id,
            tenant_id=preheat.tenant_id,
            tenant=preheat.tenant,
            name=f"preheat-{preheat.id[-12:]}",
            image=preheat.images[architecture],
            generation=preheat.generation,
        )
        mint = self._tokens.minting(f"host/{asked.host_id}", idc, preheat.tenant_id)
        assignment = held_assignment(held, mint, together=asked.together)
        assignment.effort = EFFORTS[preheat.effort]
        return assignment
