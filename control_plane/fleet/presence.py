"""Who is attached, as the database knows it: admission at the door, the session's record, and who was seen.

Invariant: the database is written when somebody comes, goes, or says something new of itself, and once in
`FLUSH_SECONDS` for everybody together; never for a heartbeat. A member that is revoked, and a certificate that is, is
refused in the same transaction that would let it in.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import structlog

from common.clock import Clock
from common.errors import Failure
from control_plane.database import Database, UnitOfWork
from control_plane.fleet import store_members
from control_plane.fleet.messages import RegionalsChanged, SessionReplaced
from control_plane.fleet.model import Member
from control_plane.fleet.store_admission import admitted
from control_plane.fleet.store_members import Session
from control_plane.rpc.peers import PeerIdentity

log = structlog.get_logger()

FLUSH_SECONDS = 30.0
_CONFLICT_WRITTEN_AFTER = timedelta(minutes=1)


class Presence:
    """`replica_id` names this process among the replicas: new at each start."""

    def __init__(self, database: Database, replica_id: str, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.replica_id = replica_id
        self._seen: Callable[[], Sequence[Session]] = tuple
        self._ended: dict[str, tuple[Session, str]] = {}
        self._wake = asyncio.Event()

    async def may_come_in(self, peer: PeerIdentity) -> Member:
        """Raises `IdentityUnknown`, `IdentityWasRevoked`."""
        async with self._database.reading() as connection:
            return await admitted(connection, peer)

    async def came(self, peer: PeerIdentity, session_id: str, reported: Mapping[str, Any]) -> Member:
        """Record the session and what changed in what the member says of itself. Raises what `may_come_in` does."""
        async with self._database.transaction() as unit:
            before = await admitted(unit.connection, peer)
            kind = peer.name.kind
            changed = {name: value for name, value in reported.items() if getattr(before, name) != value}
            await store_members.change(
                unit.connection,
                kind,
                before.id,
                session_id=session_id,
                session_replica=self.replica_id,
                last_seen_at=self._clock.now(),
                **changed,
            )
            if before.session_id is not None and before.session_replica != self.replica_id:
                await unit.announce(SessionReplaced(kind, before.id, session_id))
            if kind == "regional":
                await unit.announce(RegionalsChanged(before.idc_id))
            after = await store_members.find_member(unit.connection, kind, before.id)
        return after or before

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
        self._ended[session_id] = Session(member.kind, member.id, session_id), member.idc_id
        self._wake.set()

    def watch(self, seen: Callable[[], Sequence[Session]]) -> None:
        """`seen` tells whom to write down as seen: the streams that are attached when it is asked."""
        self._seen = seen

    async def flush(self) -> None:
        """Write who left and who was seen. Raises `Unavailable`; what was not written is kept for the next time."""
        ended = dict(self._ended)
        now = self._clock.now()
        async with self._database.transaction() as unit:
            await self._write_ended(unit, ended)
            await store_members.touch(unit.connection, self._seen(), now)
        self._forget(ended)

    async def flush_ended(self) -> None:
        ended = dict(self._ended)
        if ended:
            async with self._database.transaction() as unit:
                await self._write_ended(unit, ended)
            self._forget(ended)

    async def flush_forever(self) -> None:
        """Everybody's `last_seen_at` each `FLUSH_SECONDS`; who left at once, but together."""
        due = self._clock.monotonic() + FLUSH_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - self._clock.monotonic())):
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

    async def _write_ended(self, unit: UnitOfWork, ended: Mapping[str, tuple[Session, str]]) -> None:
        await store_members.detach(unit.connection, [session for session, _ in ended.values()], self._clock.now())
        for idc_id in {idc_id for session, idc_id in ended.values() if session.kind == "regional"}:
            await unit.announce(RegionalsChanged(idc_id))

    def _forget(self, written: Mapping[str, tuple[Session, str]]) -> None:
        for session_id in written:
            self._ended.pop(session_id, None)
