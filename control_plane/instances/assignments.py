"""What the fleet asks of this domain for its streams: what a host shall run, and what a host says of it.

Invariant: a host hears of its own instances only, each content with a token for that host alone, and what it says of
others is passed over. When `accept_reports` returns, everything that was said is durable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from common.errors import Failure
from common.gathering import STEP_SECONDS, Gathering
from control_plane.database import Database, UnitOfWork
from control_plane.fleet.desired import AssignmentSnapshot
from control_plane.fleet.model import HostUnknown
from control_plane.instances import store, wire
from control_plane.instances.forgetting import forget
from control_plane.instances.messages import InstanceReported
from control_plane.instances.model import Instance, Status, Wish
from control_plane.instances.observations import Effect, Observation, effect_of, status_after
from control_plane.instances.store import AssignedGenerations, AssignedSet
from control_plane.swarm.service import SwarmService
from control_plane.swarm.tokens import ContentTokens
from proto.agent.v1 import agent_pb2
from proto.agent.v1.agent_pb2 import Assignment

log = structlog.get_logger()

# Hosts whose reports are taken together: 500 instances each (agent/reporter.py) stay below what databases bind.
_MOST_SPEAKERS = 50
Known = dict[str, tuple[Wish, Status]]
# A host, and what it was told last.
_Held = tuple[str, Mapping[str, Assignment]]


@dataclass(frozen=True, slots=True)
class _Said:
    host_id: str
    observations: Sequence[Observation]


class InstanceAssignments:
    """Implements `fleet.desired.AssignmentSource`."""

    def __init__(self, database: Database, tokens: ContentTokens, swarm: SwarmService) -> None:
        self._database = database
        self._tokens = tokens
        self._swarm = swarm
        # A change of a whole fleet wakes all its streams at once.
        self._asking = Gathering(self._assigned, step_seconds=STEP_SECONDS)
        self._asking_changes = Gathering(self._changed)
        self._comparing = Gathering(self._compared, _MOST_SPEAKERS)
        self._writing = Gathering(self._written, _MOST_SPEAKERS)

    async def assignments(self, host_id: str, held: Mapping[str, Assignment] | None = None) -> AssignmentSnapshot:
        """Raises `HostUnknown`."""
        kept: dict[str, Assignment] = {}
        if held is None:
            found = await self._asking.ask(host_id)
        else:
            found, kept = await self._asking_changes.ask((host_id, held))
        return AssignmentSnapshot(found.generation, kept | self._messages(host_id, found.idc, found.instances))

    def _messages(self, host_id: str, idc: str, instances: Sequence[Instance]) -> dict[str, Assignment]:
        bearer = f"host/{host_id}"
        return {
            instance.id: wire.assignment_of(instance, self._tokens.minting(bearer, idc, instance.tenant_id))
            for instance in instances
        }

    async def _assigned(self, host_ids: Sequence[str]) -> list[AssignedSet | Failure]:
        async with self._database.reading() as connection:
            found = await store.assigned_sets(connection, host_ids)
        return [found.get(host_id) or _unknown(host_id) for host_id in host_ids]

    async def _changed(self, asked: Sequence[_Held]) -> list[tuple[AssignedSet, dict[str, Assignment]] | Failure]:
        """What the host does not hold as it is, and what it does."""
        async with self._database.reading() as connection:
            # Generations first: what is read after them is never older.
            found = await store.assigned_generations(connection, [host_id for host_id, _ in asked])
            kept = {host_id: _still_true(found[host_id], held) for host_id, held in asked if host_id in found}
            missing = {host_id: found[host_id].instances.keys() - kept[host_id].keys() for host_id in kept}
            loaded = await store.with_ids(connection, {one for ids in missing.values() for one in ids})
        answers: list[tuple[AssignedSet, dict[str, Assignment]] | Failure] = []
        for host_id, _ in asked:
            if host_id not in found:
                answers.append(_unknown(host_id))
                continue
            # One that has moved on since is no longer this host's, which its next generation says.
            here = (loaded[one] for one in sorted(missing[host_id]) if one in loaded)
            changed = tuple(instance for instance in here if instance.host_id == host_id)
            answers.append((AssignedSet(found[host_id].generation, found[host_id].idc, changed), kept[host_id]))
        return answers

    async def accept_reports(
        self,
        host_id: str,
        instances: Sequence[agent_pb2.InstanceReport],
        contents: Sequence[agent_pb2.ContentReport],
    ) -> None:
        """Writes only what is news; unknown instances are passed over, for the host may not have heard that they are
        forgotten.
        """
        # Contents first: who sees an instance verified then also sees its bytes.
        await self._swarm.accept_content_reports(host_id, contents)
        observations = [one for report in instances if (one := wire.observation_of(report)) is not None]
        if not observations:
            return
        said = _Said(host_id, observations)
        if await self._comparing.ask(said):
            await self._writing.ask(said)

    async def _compared(self, spoken: Sequence[_Said]) -> list[bool]:
        """Whether something of it is news."""
        async with self._database.reading() as connection:
            known = await store.of_hosts(connection, *_asked(spoken))
        return [bool(_news(one.observations, known[one.host_id])) for one in spoken]

    async def _written(self, spoken: Sequence[_Said]) -> list[None]:
        async with self._database.transaction() as unit:
            # Again, and locked: what was read before may have changed since.
            known = await store.of_hosts(unit.connection, *_asked(spoken), locked=True)
            news = [
                (observation, effect, *known[one.host_id][observation.instance_id])
                for one in spoken
                for observation, effect in _news(one.observations, known[one.host_id])
            ]
            await self._write(unit, news)
        return [None] * len(spoken)

    async def _write(self, unit: UnitOfWork, news: Sequence[tuple[Observation, Effect, Wish, Status]]) -> None:
        changed: dict[str, Status] = {}
        told: list[InstanceReported] = []
        gone: list[Wish] = []
        for observation, effect, instance, before in news:
            if effect is Effect.GONE:
                gone.append(instance)
                continue
            after = changed[instance.id] = status_after(observation, unit.clock.now())
            if (after.phase, after.health) != (before.phase, before.health):
                told.append(
                    InstanceReported(
                        instance.id, instance.tenant_id, after.observed_generation, after.phase, after.health
                    )
                )
        await store.put_statuses(unit.connection, changed)
        await unit.announce(*told)
        for instance in gone:
            await forget(unit, instance, self._swarm)
            log.info("instance forgotten", instance=instance.id, host=instance.host_id)


def _asked(spoken: Sequence[_Said]) -> tuple[set[str], set[str]]:
    """Ids of the hosts, and of the instances that they speak of."""
    return {one.host_id for one in spoken}, {said.instance_id for one in spoken for said in one.observations}


def _still_true(found: AssignedGenerations, held: Mapping[str, Assignment]) -> dict[str, Assignment]:
    return {
        one: held[one]
        for one, generation in found.instances.items()
        if one in held and held[one].generation == generation
    }


def _unknown(host_id: str) -> HostUnknown:
    return HostUnknown(f"there is no host {host_id}", action="see `longshore host list`")


def _news(observations: Sequence[Observation], known: Known) -> list[tuple[Observation, Effect]]:
    """The last word on each instance, where it changes something."""
    last = {one.instance_id: one for one in sorted(observations, key=lambda one: one.generation)}
    found: list[tuple[Observation, Effect]] = []
    for instance_id, observation in last.items():
        if instance_id in known:
            effect = effect_of(observation, *known[instance_id])
            if effect is not Effect.NOTHING:
                found.append((observation, effect))
    return found
