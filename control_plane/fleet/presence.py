"""Who is attached, as the database knows it: admission at the door, the session's record, and who was seen.

Invariant: the database is written when somebody comes, goes, or says something new of itself, and once in
`FLUSH_SECONDS` for everybody together; never for a heartbeat. A member that is revoked, and a certificate that is, is
refused in the same transaction that would let it in.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import structlog

from common.clock import Clock
from common.errors import Failure
from common.gathering import STEP_SECONDS, Gathering
from common.tls import IdentityKind
from control_plane.database import Database, UnitOfWork
from control_plane.fleet import store_members
from control_plane.fleet.messages import HostsCame, RegionalsChanged, SessionReplaced
from control_plane.fleet.model import Member
from control_plane.fleet.store_admission import admitted_of
from control_plane.fleet.store_members import Session
from control_plane.fleet.waking import wake
from control_plane.rpc.peers import PeerIdentity

log = structlog.get_logger()

FLUSH_SECONDS = 30.0
_CONFLICT_WRITTEN_AFTER = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class _Arrival:
    peer: PeerIdentity
    session_id: str
    reported: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Come:
    """An arrival that was let in. `before`: as it was known."""

    arrival: _Arrival
    before: Member

    @property
    def news(self) -> dict[str, Any]:
        said = self.arrival.reported
        return {name: value for name, value in said.items() if getattr(self.before, name) != value}


@dataclass(frozen=True, slots=True)
class _Gone:
    """A stream that ended. `due`: when that is written down, by the clock that nobody sets."""

    session: Session
    idc_id: str
    due: float


class Presence:
    """`replica_id` names this process among the replicas: new at each start. `grace_seconds`: a host whose stream ended
    is written down as gone that much later, unless it is back by then: a network that broke for a moment takes a
    thousand streams with it, and none of those hosts is down. A regional is gone at once: agents turn to others.
    """

    def __init__(self, database: Database, replica_id: str, clock: Clock, grace_seconds: float = 0.0) -> None:
        self._database = database
        self._clock = clock
        self.replica_id = replica_id
        self._seen: Callable[[], Sequence[Session]] = tuple
        self._grace_seconds = grace_seconds
        self._ended: dict[str, _Gone] = {}
        self._wake = asyncio.Event()
        self._knocking = Gathering(self._admitted, step_seconds=STEP_SECONDS)
        self._coming = Gathering(self._arrived, step_seconds=STEP_SECONDS)

    async def may_come_in(self, peer: PeerIdentity) -> Member:
        """Raises `IdentityUnknown`, `IdentityWasRevoked`."""
        return await self._knocking.ask(peer)

    async def came(self, peer: PeerIdentity, session_id: str, reported: Mapping[str, Any]) -> Member:
        """Record the session and what changed in what the member says of itself. Raises what `may_come_in` does."""
        return await self._coming.ask(_Arrival(peer, session_id, reported))

    async def _admitted(self, peers: Sequence[PeerIdentity]) -> list[Member | Failure]:
        async with self._database.reading() as connection:
            return await admitted_of(connection, peers)

    async def _arrived(self, arrivals: Sequence[_Arrival]) -> list[Member | Failure]:
        """One transaction for all who come at the same moment: 1,000 commits would be what they wait for."""
        async with self._database.transaction() as unit:
            found = await admitted_of(unit.connection, [one.peer for one in arrivals])
            come = [
                _Come(one, before) for one, before in zip(arrivals, found, strict=True) if isinstance(before, Member)
            ]
            # In the order of ids, as everywhere: transactions that touch several members never wait in a circle.
            come.sort(key=lambda one: one.before.id)
            await _take_image_tokens_back(unit, come)
            for kind in store_members.KINDS:
                await self._record(unit, kind, [one for one in come if one.before.kind == kind])
        after = {id(one.arrival): replace(one.before, **one.news) for one in come}
        return [after.get(id(one), before) for one, before in zip(arrivals, found, strict=True)]

    async def _record(self, unit: UnitOfWork, kind: IdentityKind, come: Sequence[_Come]) -> None:
        seen = {"session_replica": self.replica_id, "last_seen_at": self._clock.now()}
        sessions = [(one.before.id, {"session_id": one.arrival.session_id, **seen}) for one in come]
        await store_members.change_each(unit.connection, kind, sessions)
        await store_members.change_each(unit.connection, kind, [(one.before.id, one.news) for one in come if one.news])
        moved = [one for one in come if one.before.session_id and one.before.session_replica != self.replica_id]
        await unit.announce(*(SessionReplaced(kind, one.before.id, one.arrival.session_id) for one in moved))
        if kind == "regional":
            await unit.announce(*(RegionalsChanged(idc_id) for idc_id in {one.before.idc_id for one in come}))
        elif new := sum(1 for one in come if one.news or not one.before.session_id):
            await unit.announce(HostsCame(new))

    async def conflicted(self, member: Member, refused_peer: str) -> None:
        """A copy was refused: show it, and write it down for the audit, at most once a minute a member."""
        log.warning(
            "identity used twice", audit=True, member=member.label, id=member.id, refused_process=refused_peer[:64]
        )
        now = self._clock.now()
        async with self._database.transaction() as unit:
            found = await store_members.find_member(unit.connection, member.kind, member.id, locked=True)
            if found is None or (found.conflict_at is not None and found.conflict_at > now - _CONFLICT_WRITTEN_AFTER):
                return
            await store_members.change(unit.connection, member.kind, member.id, conflict_at=now)

    def left(self, member: Member, session_id: str) -> None:
        """The stream is over. Written soon, with all others that end about now; callable while being cancelled."""
        grace = self._grace_seconds if member.kind == "host" else 0.0
        ended = Session(member.kind, member.id, session_id)
        self._ended[session_id] = _Gone(ended, member.idc_id, self._clock.monotonic() + grace)
        self._wake.set()

    def watch(self, seen: Callable[[], Sequence[Session]]) -> None:
        """`seen` tells whom to write down as seen: the streams that are attached when it is asked."""
        self._seen = seen

    async def flush(self) -> None:
        """Write who left and who was seen. Raises `Unavailable`; what was not written is kept for the next time."""
        ended = self._due()
        now = self._clock.now()
        async with self._database.transaction() as unit:
            await self._write_ended(unit, ended)
            await store_members.touch(unit.connection, self._seen(), now)
        self._forget(ended)

    async def flush_ended(self) -> None:
        ended = self._due()
        if ended:
            async with self._database.transaction() as unit:
                await self._write_ended(unit, ended)
            self._forget(ended)

    async def flush_forever(self) -> None:
        """Everybody's `last_seen_at` each `FLUSH_SECONDS`; who left when its grace is over, but together."""
        due = self._clock.monotonic() + FLUSH_SECONDS
        while True:
            next_due = min((one.due for one in self._ended.values()), default=due)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(due, next_due) - self._clock.monotonic())):
                    await self._wake.wait()
            self._wake.clear()
            try:
                if self._clock.monotonic() >= due:
                    due = self._clock.monotonic() + FLUSH_SECONDS
                    await self.flush()
                else:
                    await self.flush_ended()
            except Failure as failure:
                log.warning("presence not written", error=str(failure), sessions=len(self._ended))
                await self._clock.sleep(1.0)
                self._wake.set()

    def _due(self) -> dict[str, _Gone]:
        now = self._clock.monotonic()
        return {session_id: one for session_id, one in self._ended.items() if one.due <= now}

    async def _write_ended(self, unit: UnitOfWork, ended: Mapping[str, _Gone]) -> None:
        await store_members.detach(unit.connection, [one.session for one in ended.values()], self._clock.now())
        for idc_id in {one.idc_id for one in ended.values() if one.session.kind == "regional"}:
            await unit.announce(RegionalsChanged(idc_id))

    def _forget(self, written: Mapping[str, _Gone]) -> None:
        for session_id in written:
            self._ended.pop(session_id, None)


async def _take_image_tokens_back(unit: UnitOfWork, come: Sequence[_Come]) -> None:
    """A regional says for the first time that it refuses tokens for several contents: the hosts of its IDC that have
    some are told everything again, with tokens that it takes.
    """
    refusing = {
        one.before.idc_id for one in come if one.before.kind == "regional" and one.news.get("image_tokens") is False
    }
    if refusing:
        await wake(unit, await store_members.ids_of_hosts(unit.connection, refusing))
