"""The simulated control plane: its rows in memory, and a process around them that can be killed and started again.

Real: sessions, conversations, the agents' dialect, transitions of instances, what a report does to what is known
(`effect_of`), assignments on the wire. In memory: the rows (`Rows`, which `test_rows.py` holds to what the database
does), presence, and the watch, whose announcements are lost, doubled and late.

Invariants, held at every write: the observed generation of an instance never falls, what is said to run has run, and
what is said to be gone is gone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.wire import assignment_from
from common.clock import Clock
from common.errors import Failure, Unavailable
from common.tls import Name
from control_plane.fleet.conversation import Tempo
from control_plane.fleet.desired import AssignmentSnapshot
from control_plane.fleet.dialects import AgentDialect
from control_plane.fleet.model import Host, Member
from control_plane.fleet.session import Session, StreamReplaced
from control_plane.fleet.sessions import Sessions
from control_plane.instances import wire
from control_plane.instances.model import Instance, Phase, Status
from control_plane.instances.observations import Effect, Observation, effect_of, status_after
from control_plane.rpc.peers import PeerIdentity
from proto.agent.v1 import agent_pb2
from tests.simulation.host import Broken, SimulatedHost
from tests.simulation.network import Connection, Network
from tests.simulation.simulated_loop import Power
from tests.simulation.tempo import SimulatedTempo

Held = Mapping[str, agent_pb2.Assignment]


@dataclass
class Rows:
    """What the database holds of hosts and instances, and the statements that the fleet makes on it."""

    clock: Clock
    announce: Callable[[str], None]
    generations: dict[str, int] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    statuses: dict[str, Status] = field(default_factory=dict)
    written: Callable[[Instance, Status | None], None] = lambda instance, status: None
    _messages: dict[tuple[str, int], agent_pb2.Assignment] = field(default_factory=dict)
    _of_host: dict[str, dict[str, None]] = field(default_factory=dict)

    def add_host(self, host_id: str) -> None:
        self.generations[host_id] = 1

    def put(self, instance: Instance) -> None:
        """A new instance, or another wish for one that is there."""
        self.instances[instance.id] = instance
        self._of_host.setdefault(instance.host_id, {})[instance.id] = None
        self._bump(instance.host_id)

    def forget(self, instance: Instance) -> None:
        del self.instances[instance.id]
        del self._of_host[instance.host_id][instance.id]
        self.statuses.pop(instance.id, None)
        self._bump(instance.host_id)

    def of_host(self, host_id: str) -> list[Instance]:
        return [self.instances[instance_id] for instance_id in self._of_host.get(host_id, ())]

    # `control_plane.fleet.desired.AssignmentSource`.

    async def assignments(self, host_id: str, held: Held | None = None) -> AssignmentSnapshot:
        assigned = {instance.id: self._message(instance) for instance in self.of_host(host_id)}
        return AssignmentSnapshot(self.generations[host_id], assigned)

    async def accept_reports(
        self, host_id: str, instances: Sequence[agent_pb2.InstanceReport], contents: Sequence[agent_pb2.ContentReport]
    ) -> None:
        observations = [one for report in instances if (one := wire.observation_of(report)) is not None]
        last = {one.instance_id: one for one in sorted(observations, key=lambda one: one.generation)}
        for instance_id, observation in last.items():
            instance = self.instances.get(instance_id)
            if instance is not None and instance.host_id == host_id:
                self._observe(instance, observation)

    def _observe(self, instance: Instance, observation: Observation) -> None:
        known = self.statuses.get(instance.id, Status())
        match effect_of(observation, instance.wish, known):
            case Effect.GONE:
                self.written(instance, None)
                self.forget(instance)
            case Effect.CHANGED:
                status = status_after(observation, self.clock.now())
                self.written(instance, status)
                self.statuses[instance.id] = status
            case Effect.NOTHING:
                pass

    def _bump(self, host_id: str) -> None:
        self.generations[host_id] += 1
        self.announce(host_id)

    def _message(self, instance: Instance) -> agent_pb2.Assignment:
        key = instance.id, instance.generation
        if key not in self._messages:
            self._messages[key] = wire.assignment_of(instance, lambda digests: "token", together=True)
        return self._messages[key]


class Database:
    """What outlives the plane's processes: the rows, and who is attached by them. `away`: every statement fails."""

    def __init__(self, clock: Clock, hosts: Mapping[str, SimulatedHost], chance: random.Random) -> None:
        self.clock = clock
        self.away = False
        self.hosts = hosts
        self.chance = chance
        self.attached: dict[str, tuple[str, str]] = {}  # host: (session, replica)
        self.announced: Callable[[str], None] = lambda host_id: None
        self.rows = Rows(clock, lambda host_id: self.announced(host_id), written=self._check)
        self._spec_of: dict[tuple[str, int], str] = {}
        for host_id in hosts:
            self.rows.add_host(host_id)

    async def statement(self, power: Power) -> None:
        """What every access begins with."""
        await asyncio.sleep(self.chance.uniform(0.0005, 0.01))
        power.check()
        if self.away:
            raise Unavailable("the database is away", retry_after_seconds=1)

    def spec_of(self, instance: Instance) -> str:
        key = instance.id, instance.generation
        if key not in self._spec_of:
            self._spec_of[key] = assignment_from(
                wire.assignment_of(instance, lambda digests: "", together=True)
            ).spec_hash
        return self._spec_of[key]

    def _check(self, instance: Instance, status: Status | None) -> None:
        host = self.hosts[instance.host_id]
        if status is None:
            if any(one.order.instance_id == instance.id for one in host.ours()):
                raise Broken(f"{host.id} says that {instance.id} is gone, and has a container of it")
            return
        known = self.rows.statuses.get(instance.id, Status())
        if status.observed_generation < known.observed_generation:
            raise Broken(f"{instance.id}: a report of an older generation overwrote a newer one")
        spec = self._spec_of.get((instance.id, status.observed_generation))
        if status.phase is Phase.RUNNING and spec is not None and (instance.id, spec) not in host.has_run:
            raise Broken(f"{instance.id} is said to run at generation {status.observed_generation}, and never did")


class _Presence:
    """`control_plane.fleet.presence.Presence` on the simulated rows."""

    def __init__(self, database: Database, replica_id: str, power: Power) -> None:
        self._database = database
        self._power = power
        self.replica_id = replica_id

    async def may_come_in(self, peer: PeerIdentity) -> Member:
        await self._database.statement(self._power)
        return self._member(peer.name.id)

    async def came(self, peer: PeerIdentity, session_id: str, reported: Mapping[str, Any]) -> Member:
        await self._database.statement(self._power)
        self._database.attached[peer.name.id] = session_id, self.replica_id
        return self._member(peer.name.id)

    async def conflicted(self, member: Member, refused_peer: str) -> None:
        self._database.hosts[member.id].taken_for_a_copy(refused_peer)

    def left(self, member: Member, session_id: str) -> None:
        if self._power.on and self._database.attached.get(member.id, ("", ""))[0] == session_id:
            del self._database.attached[member.id]

    def watch(self, seen: Callable[[], Sequence[Any]]) -> None:
        """Nobody asks who was seen."""

    def _member(self, host_id: str) -> Host:
        session_id, replica = self._database.attached.get(host_id, (None, None))
        return Host(
            kind="host",
            id=host_id,
            name=host_id,
            idc_id="idc",
            idc="east",
            version="",
            created_at=self._database.clock.now(),
            revoked_at=None,
            last_seen_at=None,
            session_id=session_id,
            session_replica=replica,
            conflict_at=None,
        )


class _Source:
    """The rows behind a database that takes its time and may be away; a kill falls before the commit or after it."""

    def __init__(self, database: Database, power: Power) -> None:
        self._database = database
        self._power = power

    async def assignments(self, host_id: str, held: Held | None = None) -> AssignmentSnapshot:
        await self._database.statement(self._power)
        return await self._database.rows.assignments(host_id, held)

    async def accept_reports(self, host_id: str, instances: Any, contents: Any) -> None:
        await self._database.statement(self._power)
        await self._database.rows.accept_reports(host_id, instances, contents)
        await self._database.statement(self._power)


class PlaneProcess:
    """One life of the control plane."""

    def __init__(self, number: int, database: Database, network: Network, tempo: SimulatedTempo, seed: str) -> None:
        self.power = Power(random.Random(f"{seed} plane {number}"))
        self._database = database
        self._network = network
        self._tempo = tempo
        self._clock = database.clock
        chance = self.power.chance.random
        fleet_tempo = Tempo(heartbeat_seconds=tempo.heartbeat_seconds, full_set_seconds=900.0)
        presence: Any = _Presence(database, f"replica-{number}", self.power)
        self.presence = presence
        self.sessions = Sessions(presence, fleet_tempo, self._clock, chance)
        self._dialect = AgentDialect(_Source(database, self.power), _no_offences, dict)
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._database.announced = lambda host_id: self._announce(host_id)
                self._network.listener = lambda host_id, connection: self._accept(group, host_id, connection)
                group.create_task(self.sessions.sweep_forever())
                group.create_task(self._poll_forever())
        finally:
            self._network.plane_gone()

    async def stop(self) -> None:
        """As by SIGTERM."""
        self._network.listener = None
        await self.sessions.close()
        await asyncio.sleep(0.5)
        await self.kill()

    async def kill(self) -> None:
        self.power.on = False
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])

    def _accept(self, group: asyncio.TaskGroup, host_id: str, connection: Connection) -> None:
        connection.serving = group.create_task(self._serve(host_id, connection))

    async def _serve(self, host_id: str, connection: Connection) -> None:
        peer = PeerIdentity(Name("east", "host", host_id), "serial", "key")
        try:
            await self.sessions.serve(peer, self._dialect, connection.plane)
        except Failure as failure:
            connection.answered(failure)
        else:
            connection.answered(None)

    # What `control_plane.fleet.watch` does.

    def _announce(self, host_id: str) -> None:
        chance = self._database.chance
        loop = asyncio.get_running_loop()
        for _ in range(chance.choices((0, 1, 2), (5, 85, 10))[0]):
            loop.call_later(chance.uniform(0.0, 1.0), self._wake, host_id)

    def _wake(self, host_id: str) -> None:
        session = self.sessions.find("host", host_id)
        if session is not None:
            session.stale.set()

    async def _poll_forever(self) -> None:
        while True:
            await asyncio.sleep(self._tempo.plane_poll_seconds * self.power.chance.uniform(0.9, 1.1))
            if not self._database.away:
                for session in self.sessions.of_kind("host"):
                    self._compare(session)

    def _compare(self, session: Session) -> None:
        _, replica = self._database.attached.get(session.member.id, ("", ""))
        if replica != self.presence.replica_id:
            session.end(StreamReplaced(f"a newer stream of {session.member.label} counts"))
        elif self._database.rows.generations[session.member.id] != session.told_generation:
            session.stale.set()


async def _no_offences(host_id: str, said: Sequence[Any]) -> None:
    return
