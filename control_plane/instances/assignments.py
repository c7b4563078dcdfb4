"""What the fleet asks of this domain for its streams: what a host shall run, and what a host says of it.

Invariant: a host hears of its own instances only, each content with a token for that host alone, and what it says of
others is passed over. When `accept_reports` returns, everything that was said is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from common.errors import Failure
from common.gathering import Gathering
from control_plane.database import Connection, Database, UnitOfWork
from control_plane.fleet.desired import Asked, AssignmentSnapshot
from control_plane.fleet.model import HostUnknown
from control_plane.instances import store, wire
from control_plane.instances.forgetting import forget
from control_plane.instances.messages import InstanceReported
from control_plane.instances.model import Instance, Status, Wish
from control_plane.instances.observations import Effect, Observation, effect_of, status_after
from control_plane.instances.store import AssignedGenerations
from control_plane.swarm.service import SwarmService
from control_plane.swarm.tokens import ContentTokens
from proto.agent.v1 import agent_pb2
from proto.agent.v1.agent_pb2 import Assignment

log = structlog.get_logger()

# Hosts whose reports are taken together: 500 instances each (agent/reporter.py) stay below what databases bind.
_MOST_SPEAKERS = 50
# Hosts whose messages are made in one go: a token that is signed anew takes 40 microseconds.
_MOST_IN_ONE_GO = 20
Known = dict[str, tuple[Wish, Status]]


@dataclass(frozen=True, slots=True)
class _Said:
    host_id: str
    observations: Sequence[Observation]


class InstanceAssignments:
    """Implements `fleet.desired.AssignmentLayer`: the lowest one."""

    def __init__(self, database: Database, tokens: ContentTokens, swarm: SwarmService) -> None:
        self._database = database
        self._tokens = tokens
        self._swarm = swarm
        self._comparing = Gathering(self._compared, _MOST_SPEAKERS)
        self._writing = Gathering(self._written, _MOST_SPEAKERS)

    async def assigned(self, connection: Connection, asked: Sequence[Asked]) -> list[AssignmentSnapshot | Failure]:
        """`HostUnknown` for those that there are not."""
        there = await store.assigned_generations(connection, {one.host_id for one in asked})
        kept = [_still_true(there.get(one.host_id), one) for one in asked]
        missing = [_missing(there.get(one.host_id), true) for one, true in zip(asked, kept, strict=True)]
        loaded = await store.with_ids(connection, {one for ids in missing for one in ids})
        answers: list[AssignmentSnapshot | Failure] = []
        for one, true, ids in zip(asked, kept, missing, strict=True):
            found = there.get(one.host_id)
            if found is None:
                answers.append(_unknown(one.host_id))
                continue
            made = self._messages(one, found.idc, [loaded[key] for key in ids])
            answers.append(AssignmentSnapshot(found.generation, true | made))
            if len(answers) % _MOST_IN_ONE_GO == 0:
                await asyncio.sleep(0)
        return answers

    def _messages(self, asked: Asked, idc: str, instances: Sequence[Instance]) -> dict[str, Assignment]:
        made: dict[str, Assignment] = {}
        for instance in instances:
            mint = self._tokens.minting(f"host/{asked.host_id}", idc, instance.tenant_id)
            made[instance.id] = wire.assignment_of(instance, mint, together=asked.together)
        return made

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


def _still_true(found: AssignedGenerations | None, asked: Asked) -> dict[str, Assignment]:
    if found is None or not asked.held:
        return {}
    held = asked.held
    return {
        one: held[one]
        for one, generation in found.instances.items()
        if one in held and held[one].generation == generation and bool(held[one].image.token) is asked.together
    }


def _missing(found: AssignedGenerations | None, kept: Mapping[str, Assignment]) -> Sequence[str]:
    return () if found is None else sorted(found.instances.keys() - kept.keys())


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
