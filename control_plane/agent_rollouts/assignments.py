"""Which version of the agent a host is told to run, beside what it is told to run and hold.

Invariant: as for preheats, every change counts a new generation of the hosts that it concerns, and is read with it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from common.errors import Failure
from common.gathering import Gathering
from control_plane.agent_rollouts import store
from control_plane.agent_rollouts.model import Rollout
from control_plane.database import Connection, Database
from control_plane.fleet.assigning import overlaid
from control_plane.fleet.desired import Asked, AssignmentLayer, AssignmentSnapshot
from control_plane.instances.model import HeldImage
from control_plane.instances.wire import MAXIMUM_DETAIL, held_assignment, observation_of, storable
from control_plane.swarm.tokens import ContentTokens
from proto.agent.v1 import agent_pb2

# Hosts whose reports are compared together: 500 ids each (agent/reporter.py) stay below what databases bind.
_MOST_SPEAKERS = 50


class AgentRolloutAssignments:
    """Implements `fleet.desired.AssignmentLayer` over another one. A host knows a rollout by its id, as if it were
    an instance that is only held.
    """

    def __init__(self, inner: AssignmentLayer, database: Database, tokens: ContentTokens) -> None:
        self._inner = inner
        self._database = database
        self._tokens = tokens
        self._comparing = Gathering(self._known, _MOST_SPEAKERS)

    async def assigned(self, connection: Connection, asked: Sequence[Asked]) -> list[AssignmentSnapshot | Failure]:
        told = await self._inner.assigned(connection, asked)
        found = await store.of_hosts(connection, {one.host_id for one in asked})
        return overlaid(asked, told, found, self._with)

    def _with(self, told: AssignmentSnapshot, asked: Asked, found: store.Told) -> AssignmentSnapshot:
        if found.architecture not in found.rollout.images:
            return told
        wish = self._assignment(found.rollout, found.architecture, asked, found.idc)
        return AssignmentSnapshot(told.generation, {**told.assignments, found.rollout.id: wish})

    async def _known(self, spoken: Sequence[tuple[str, Collection[str]]]) -> list[dict[str, store.Said]]:
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
            one.instance_id: store.Said(one.generation, one.phase.value, storable(one.detail, MAXIMUM_DETAIL))
            for report in instances
            if (one := observation_of(report)) is not None
        }
        if not said:
            return
        known = await self._comparing.ask((host_id, said.keys()))
        # Of an earlier order it may still say that it failed; the rollout went on since.
        news = {
            key: said[key]
            for key, before in known.items()
            if key in said and said[key] != before and said[key].order == before.order
        }
        if news:
            async with self._database.transaction() as unit:
                await store.put_phases(unit.connection, host_id, news)

    def _assignment(self, rollout: Rollout, architecture: str, asked: Asked, idc: str) -> agent_pb2.Assignment:
        held = HeldImage(
            id=rollout.id,
            tenant_id=rollout.tenant_id,
            tenant=rollout.tenant,
            name=f"agent-{rollout.id[-12:]}",
            image=rollout.images[architecture],
            generation=rollout.order,
        )
        mint = self._tokens.minting(f"host/{asked.host_id}", idc, rollout.tenant_id)
        assignment = held_assignment(held, mint, together=asked.together)
        assignment.agent_update.CopyFrom(
            agent_pb2.AgentUpdate(
                order=rollout.order,
                version=rollout.version,
                healthy_seconds=round(rollout.pace.healthy.total_seconds()),
                patience_seconds=round(rollout.pace.patience.total_seconds()),
            )
        )
        return assignment
