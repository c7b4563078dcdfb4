"""What happens elsewhere, told to the streams of this replica: by events at once, by asking the database in any case.

Invariant: an event may be lost, doubled or late, and nothing breaks; the next poll finds what it announced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import structlog

from common.backoff import jittered
from common.clock import Clock
from common.errors import Failure
from common.gathering import STEP_SECONDS, Gathering
from common.tls import IdentityKind
from control_plane.database import Database
from control_plane.database.messages import Message
from control_plane.events import Event, EventBus
from control_plane.fleet import store_members
from control_plane.fleet.conversation import Tempo
from control_plane.fleet.dialects import regionals_message
from control_plane.fleet.limits.telling import LimitsTelling
from control_plane.fleet.liveness import Horizon, state_of
from control_plane.fleet.messages import (
    AssignmentsChanged,
    IdentityRevoked,
    LimitsChanged,
    OrdersChanged,
    RegionalsChanged,
    SessionReplaced,
)
from control_plane.fleet.model import Regional, State
from control_plane.fleet.presence import Presence
from control_plane.fleet.session import Session, StreamReplaced
from control_plane.fleet.sessions import Sessions
from control_plane.fleet.store_admission import revoked

log = structlog.get_logger()

_TOPICS = (
    AssignmentsChanged.topic,
    OrdersChanged.topic,
    IdentityRevoked.topic,
    RegionalsChanged.topic,
    LimitsChanged.topic,
    SessionReplaced.topic,
)


class FleetWatch:
    """`look` gives the present horizon (`liveness.horizons`)."""

    def __init__(
        self,
        database: Database,
        bus: EventBus,
        sessions: Sessions,
        presence: Presence,
        look: Callable[[], Horizon],
        tempo: Tempo,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._database = database
        self._bus = bus
        self._sessions = sessions
        self._presence = presence
        self._look = look
        self._tempo = tempo
        self._clock = clock
        self._random = random
        self._limits = LimitsTelling(database)
        self._greeting = Gathering(self._greet, step_seconds=STEP_SECONDS)
        self._reactions: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
            AssignmentsChanged.topic: self._assignments_changed,
            OrdersChanged.topic: self._orders_changed,
            IdentityRevoked.topic: self._revoked,
            SessionReplaced.topic: self._replaced,
        }
        sessions.arrived = self._arrived
        database.overheard.append(self._overhear)

    async def run(self) -> None:
        """Everything the fleet does by itself; for the whole life of the process."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_events())
            group.create_task(self._poll_forever())
            group.create_task(self._sessions.sweep_forever())
            group.create_task(self._presence.flush_forever())

    async def _follow_events(self) -> None:
        while True:
            try:
                async with self._bus.subscribe(*_TOPICS) as events:
                    await self._poll()  # what was announced while nobody listened
                    async for event in events:
                        await self._react(event)
            except Failure as failure:
                log.warning("fleet events interrupted", error=str(failure))
                # While the bus is away nobody wakes us: ask with each attempt, every three seconds or so.
                await self._poll_once()
            await self._clock.sleep(jittered(1.0, 0.5, self._random))

    async def _poll_forever(self) -> None:
        while True:
            await self._clock.sleep(jittered(self._tempo.poll_seconds, 0.1, self._random))
            await self._poll_once()

    async def _poll_once(self) -> None:
        try:
            await self._poll()
        except Failure as failure:
            log.warning("fleet not polled", error=str(failure))

    async def _poll(self) -> None:
        before = {kind: self._sessions.of_kind(kind) for kind in store_members.KINDS}
        async with self._database.reading() as connection:
            replica_id = self._presence.replica_id
            generations = {
                "host": await store_members.assignments_generations(connection, replica_id),
                "regional": await store_members.orders_generations(connection, replica_id),
            }
            regionals = await store_members.endpoints(connection)
        for kind, sessions in before.items():
            for session in sessions:
                self._compare(session, generations[kind].get(session.member.id))
        self._tell_regionals(self._sessions.of_kind("host"), regionals)
        await self._tell_limits()
        self._sessions.end_outdated()

    def _compare(self, session: Session, generation: int | None) -> None:
        if generation is None:
            # Revoked, enrolled anew, or attached to another replica since; the next Hello tells which.
            session.end(_replaced(session))
        elif generation != session.told_generation:
            session.differs(generation)

    async def _arrived(self, session: Session) -> None:
        """A stream began: an agent is told its regionals, and everybody its limits."""
        await self._greeting.ask(session)

    async def _greet(self, sessions: Sequence[Session]) -> list[None]:
        hosts = [session for session in sessions if session.member.kind == "host"]
        if hosts:
            async with self._database.reading() as connection:
                regionals = await store_members.endpoints(connection)
            self._tell_regionals(hosts, regionals)
        await self._limits.tell(sessions)
        return [None] * len(sessions)

    def _overhear(self, messages: Sequence[Message]) -> None:
        """What this process committed: its own streams need not wait until the relay brings it."""
        for message in messages:
            if isinstance(message, AssignmentsChanged):
                self._assignments_changed(message.payload())

    async def _react(self, event: Event) -> None:
        if event.topic == RegionalsChanged.topic:
            await self._regionals_changed(str(event.payload["idc_id"]))
        elif event.topic == LimitsChanged.topic:
            await self._tell_limits()
        else:
            self._reactions[event.topic](event.payload)

    async def _tell_limits(self) -> None:
        await self._limits.tell([session for kind in store_members.KINDS for session in self._sessions.of_kind(kind)])

    def _assignments_changed(self, payload: Mapping[str, Any]) -> None:
        generations = payload.get("generations", ())
        for host_id, generation in zip_longest((payload["host_id"], *payload.get("others", ())), generations):
            session = self._sessions.find("host", str(host_id))
            if session is None:
                continue
            if generation is None:
                session.stale.set()
            else:
                session.changed(int(generation))

    def _orders_changed(self, payload: Mapping[str, Any]) -> None:
        for session in self._sessions.of_kind("regional"):
            if session.member.idc_id == payload["idc_id"]:
                session.stale.set()

    def _revoked(self, payload: Mapping[str, Any]) -> None:
        session = self._found(payload)
        if session is not None:
            session.end(revoked(session.member.label))

    def _replaced(self, payload: Mapping[str, Any]) -> None:
        session = self._found(payload)
        if session is not None and session.id != payload["session_id"]:
            session.end(_replaced(session))

    def _found(self, payload: Mapping[str, Any]) -> Session | None:
        kind: IdentityKind = "regional" if payload["kind"] == "regional" else "host"
        return self._sessions.find(kind, str(payload["identity_id"]))

    async def _regionals_changed(self, idc_id: str) -> None:
        hosts = [session for session in self._sessions.of_kind("host") if session.member.idc_id == idc_id]
        if hosts:
            async with self._database.reading() as connection:
                regionals = await store_members.endpoints(connection, idc_id)
            self._tell_regionals(hosts, regionals)

    def _tell_regionals(self, hosts: Sequence[Session], regionals: Sequence[Regional]) -> None:
        at = self._look()
        messages = {
            idc_id: regionals_message(best_first([found for found in regionals if found.idc_id == idc_id], at))
            for idc_id in {session.member.idc_id for session in hosts}
        }
        for session in hosts:
            message = messages[session.member.idc_id]
            if session.told_regionals != message:
                session.told_regionals = message
                session.send(message)


def best_first(regionals: Sequence[Regional], at: Horizon) -> Sequence[Regional]:
    """The regionals that are there, all agents in the same order, so that they meet in one swarm and a content crosses
    the WAN once; if none is there, those known last: they may still serve what they hold.
    """
    alive = [regional for regional in regionals if state_of(regional, at) in (State.ONLINE, State.CONFLICT)]
    return alive or regionals


def _replaced(session: Session) -> StreamReplaced:
    return StreamReplaced(f"a newer stream of {session.member.label} counts", action="it is attached again")
