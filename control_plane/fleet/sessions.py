"""Who is attached to this replica: the door they come through, and what wakes, ends and counts them.

Invariant: an identity has at most one stream here, and across replicas the newest one soon. A process that reconnects
replaces its own old stream; a second process with the same certificate is refused while the first one answers.

What must not be missed is in the database; events only make it sooner. Everything is therefore asked again each
`poll_seconds`: generations in one query a kind, whatever the number of streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio
import structlog

from common.clock import Clock
from common.errors import RateLimited, Unavailable
from common.identifiers import new_id
from common.protocol_version import require_spoken
from common.tls import IdentityKind, Name
from control_plane.fleet.conversation import Conversation, Stream, Tempo
from control_plane.fleet.dialects import Dialect, HelloInvalid
from control_plane.fleet.liveness import silence_limit
from control_plane.fleet.model import Member
from control_plane.fleet.precedence import Precedence
from control_plane.fleet.presence import Presence
from control_plane.fleet.session import IdentityInUse, Session, StreamReplaced
from control_plane.fleet.store_members import Session as SessionRow
from control_plane.rpc.peers import PeerIdentity

log = structlog.get_logger()

Key = tuple[IdentityKind, str]
# Of one identity, before they are let in; a process that reconnects after a bad moment has two or three.
_MOST_ARRIVING = 8
# Kind, IDC and id, as in the directory; the regionals of an IDC share one lease, and so one place without an id.
Place = tuple[IdentityKind, str, str]


def place_of(member: Member) -> Place:
    return (member.kind, member.idc, member.id if member.kind == "host" else "")


@dataclass(frozen=True, slots=True)
class _Newcomer:
    peer: PeerIdentity
    process_id: str
    reported: dict[str, Any]
    dialect: Dialect
    stream: Stream


class TooManyStreams(RateLimited):
    """More streams of one identity wait to be let in than any process of ours opens."""

    code = "too_many_streams"


class Sessions:
    """The streams of this process. `FleetWatch` tells it what changed elsewhere."""

    def __init__(self, presence: Presence, tempo: Tempo, clock: Clock, random: Callable[[], float]) -> None:
        self._presence = presence
        self._tempo = tempo
        self._clock = clock
        self._random = random
        self._precedence = Precedence()
        self._attached: dict[Key, Conversation] = {}
        self._doors: weakref.WeakValueDictionary[Key, asyncio.Lock] = weakref.WeakValueDictionary()
        self._lapsed: set[Place] = set()
        self._closing = False
        self._empty = asyncio.Event()
        self._arriving: Counter[Name] = Counter()
        self.arrived: Callable[[Session], Awaitable[None]] = _nobody_waits
        # Told the kind of the sender of each message that this version does not know.
        self.not_understood: Callable[[str], None] = lambda kind: None
        presence.watch(self._rows)

    async def serve(self, peer: PeerIdentity, dialect: Dialect, stream: Stream) -> None:
        """One stream from its Hello to its end. Returns when the client hangs up; raises the `Failure` that ended it:
        `HelloInvalid`, `ProtocolUnsupported`, `TooManyStreams`, `IdentityUnknown`, `IdentityWasRevoked`,
        `IdentityInUse`, `StreamReplaced`, `StreamOverflow`, `Unavailable`.
        """
        conversation = await self._let_in(peer, dialect, stream)
        session = conversation.session
        log.info("stream attached", member=session.member.label, id=session.member.id, session=session.id)
        try:
            await self.arrived(session)
            await conversation.run()
        finally:
            key = (session.member.kind, session.member.id)
            if self._attached.get(key) is conversation:
                del self._attached[key]
            if self._closing and not self._attached:
                self._empty.set()
            self._left(session.member, session.id)
            log.info("stream ended", member=session.member.label, id=session.member.id, session=session.id)

    async def _let_in(self, peer: PeerIdentity, dialect: Dialect, stream: Stream) -> Conversation:
        with self._arrival(peer):
            hello = await self._hello(stream, peer)
            return await self._enter(_Newcomer(peer, hello.process_id, dialect.reported(hello), dialect, stream))

    async def _enter(self, newcomer: _Newcomer) -> Conversation:
        member = await self._presence.may_come_in(newcomer.peer)
        key = (member.kind, member.id)
        session_id = new_id(self._clock)
        async with self._doors.setdefault(key, asyncio.Lock()):
            await self._contest(key, member, newcomer)
            try:
                member = await self._presence.came(newcomer.peer, session_id, newcomer.reported)
                session = Session(member.as_attached(), session_id, newcomer.process_id, self._clock)
                return self._admit(key, session, newcomer)
            except BaseException:
                # Also if recording was cut off half-way: a row that says "attached" must not outlive the stream.
                self._left(member, session_id)
                raise

    def _left(self, member: Member, session_id: str) -> None:
        # Nobody is written down as gone at the end of the process: whoever was attached is on its way back, not down.
        if not self._closing:
            self._presence.left(member, session_id)

    def _admit(self, key: Key, session: Session, newcomer: _Newcomer) -> Conversation:
        if self._closing:
            raise _stopping()
        older = self._attached.get(key)
        if older is not None:
            older.session.end(StreamReplaced(f"a newer stream of {session.member.label} is attached"))
        conversation = Conversation(
            session, newcomer.dialect, newcomer.stream, self._tempo, self._clock, self._random, self._precedence
        )
        conversation.counted = self.not_understood
        self._attached[key] = conversation
        self._lapsed.discard(place_of(session.member))
        return conversation

    @contextlib.contextmanager
    def _arrival(self, peer: PeerIdentity) -> Iterator[None]:
        """Raises `TooManyStreams`: whoever opens a thousand costs us eight."""
        if self._arriving[peer.name] >= _MOST_ARRIVING:
            raise TooManyStreams(
                f"{_MOST_ARRIVING} streams of {peer.name.uri()} wait to be let in",
                action="open one stream a process",
                retry_after_seconds=self._tempo.hello_seconds,
            )
        self._arriving[peer.name] += 1
        try:
            yield
        finally:
            self._arriving[peer.name] -= 1
            if not self._arriving[peer.name]:
                del self._arriving[peer.name]

    async def _hello(self, stream: Stream, peer: PeerIdentity) -> Any:
        try:
            async with asyncio.timeout(self._tempo.hello_seconds):
                message = await stream.read()
        except TimeoutError:
            raise HelloInvalid("no Hello came", action="send Hello first") from None
        if message is grpc.aio.EOF or message.WhichOneof("body") != "hello":
            raise HelloInvalid("the stream did not begin with Hello", action="send Hello first")
        if not 0 < len(message.hello.process_id) <= 128:
            raise HelloInvalid("Hello names no process", action="send a random process_id, made at process start")
        require_spoken(message.hello.protocol_version, peer.name.uri())
        return message.hello

    async def _contest(self, key: Key, member: Member, newcomer: _Newcomer) -> None:
        """Raises `IdentityInUse` if another process with this identity is attached and alive."""
        there = self._attached.get(key)
        if there is None or there.session.over or there.session.process_id == newcomer.process_id:
            return
        nonce = secrets.token_hex(8)
        if not await there.session.answers(nonce, newcomer.dialect.probe(nonce), self._tempo.probe_seconds):
            return
        # The Hello of a process that died may be read after that of its successor. It is refused, but is no copy: who
        # lives waits for its Welcome.
        if not await self._hangs_up(newcomer.stream):
            await self._presence.conflicted(member, newcomer.process_id)
        raise IdentityInUse(
            f"another process is attached as {member.label} and answers",
            action="stop the other one; if this machine was cloned, remove its identity directory and enrol it with a "
            "join token of its own",
            member=member.label,
        )

    async def _hangs_up(self, stream: Stream) -> bool:
        """Whether the other end is gone, or goes within the time that it takes to hear of it."""
        try:
            async with asyncio.timeout(self._tempo.probe_seconds):
                return await stream.read() is grpc.aio.EOF
        except TimeoutError:
            return False

    # What others ask and tell.

    async def give_way(self) -> None:
        """Return once no host is being told what it shall do, or soon in any case: for what may as well come after."""
        await asyncio.sleep(0)  # whoever was woken just now begins
        await self._precedence.stand_back()

    def find(self, kind: IdentityKind, identity_id: str) -> Session | None:
        there = self._attached.get((kind, identity_id))
        return None if there is None else there.session

    def of_kind(self, kind: IdentityKind) -> Sequence[Session]:
        return [there.session for (found, _), there in self._attached.items() if found == kind]

    def lease_changed(self, place: Place, *, lapsed: bool) -> None:
        """What discovery says (`leases`); it hastens the verdict on who is silent, see `liveness`."""
        if lapsed:
            self._lapsed.add(place)
        else:
            self._lapsed.discard(place)

    def end_outdated(self) -> None:
        """End the streams whose Welcome is not true any more."""
        for there in list(self._attached.values()):
            if there.outdated:
                there.session.end(Unavailable("what Welcome said has changed", action="attach again to learn it"))

    async def sweep_forever(self) -> None:
        """End streams that nothing is heard of, unless it was ourselves who stood still: what they said waits then."""
        period = self._tempo.heartbeat_seconds / 2
        while True:
            due = self._clock.monotonic() + period
            await self._clock.sleep(period)
            late = self._clock.monotonic() - due
            if late > period:
                log.warning("control plane stood still", seconds=round(late, 1), streams=len(self._attached))
                continue
            for there in list(self._attached.values()):
                lapsed = place_of(there.session.member) in self._lapsed
                limit = silence_limit(self._tempo.heartbeat_seconds, lease_lapsed=lapsed)
                silent = there.session.silent_seconds
                if silent > limit:
                    label = there.session.member.label
                    there.session.end(
                        Unavailable(f"nothing was heard of {label} for {silent:.0f} s", action="it attaches again")
                    )

    async def close(self) -> None:
        """End all streams; nobody is written down as gone. New ones are refused from now on."""
        self._closing = True
        for there in list(self._attached.values()):
            there.session.end(_stopping())
        # Their handlers need a turn each to tell the clients; the server's grace bounds the rest.
        if self._attached:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    await self._empty.wait()

    def _rows(self) -> Sequence[SessionRow]:
        return [
            SessionRow(kind, identity_id, there.session.id) for (kind, identity_id), there in self._attached.items()
        ]


async def _nobody_waits(session: Session) -> None:
    """Until a `FleetWatch` takes the place."""


def _stopping() -> Unavailable:
    # Everybody comes back to whichever replica is there; 2 s of jitter spread them.
    return Unavailable("the control plane stops", action="it is attached again", retry_after_seconds=2.0)
