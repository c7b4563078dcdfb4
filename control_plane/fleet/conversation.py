"""One stream from Welcome to its end: what goes down, what comes up, and in which order.

Invariant: the other side holds exactly the desired state of the generation it was told, because the first picture is
sent whole and each later one as the difference to the one before. Reports are acknowledged after `accept` returned,
never earlier. Any failure of any part ends the whole stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import grpc.aio
import structlog

from common.backoff import Backoff, jittered
from common.clock import Clock
from common.errors import Failure, Unavailable
from common.failure_groups import first_of
from common.generations import changes_between
from common.protocol_version import NotUnderstood
from control_plane.fleet.dialects import Dialect, Picture
from control_plane.fleet.precedence import Precedence
from control_plane.fleet.session import Down, Session, StreamOverflow, Up
from control_plane.fleet.waiting import Flag

log = structlog.get_logger()

# Batches of reports that wait for the database; a client sends one at a time and waits for its acknowledgement.
_REPORTS_CAPACITY = 16
_ACCEPT_SECONDS = 30.0
_TAKEN_IN_TURN = frozenset({"reports", "facts", "sample", "machines", "condition"})
_LAST_WRITE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Tempo:
    """The fleet's periods, in seconds."""

    heartbeat_seconds: float = 10.0
    probe_seconds: float = 2.0
    poll_seconds: float = 30.0
    # Content tokens live for 24 h at least (control_plane/swarm/tokens.py); a full set renews them.
    full_set_seconds: float = 6 * 3600.0
    # Of 5,000 that come at once the last is heard after 16 s (benchmarks/fleet); 10 s sent half of them away.
    hello_seconds: float = 30.0


class Stream(Protocol):
    """The part of `grpc.aio.ServicerContext` that is used."""

    async def read(self) -> Any: ...

    async def write(self, message: Any) -> None: ...


class _Closed(Exception):
    """The client hung up: the end of a stream, but no failure."""


class Conversation:
    """Of what it read and wrote it keeps nothing while it waits for the next."""

    __slots__ = (
        "_accepting",
        "_clock",
        "_idle",
        "_last_write",
        "_not_understood",
        "_precedence",
        "_random",
        "_reports",
        "_stream",
        "_tempo",
        "_welcomed",
        "counted",
        "dialect",
        "session",
    )

    def __init__(
        self,
        session: Session,
        dialect: Dialect,
        stream: Stream,
        tempo: Tempo,
        clock: Clock,
        random: Callable[[], float],
        precedence: Precedence,
    ) -> None:
        self.session = session
        self._precedence = precedence
        self.dialect = dialect
        self._stream = stream
        self._tempo = tempo
        self._clock = clock
        self._random = random
        self._reports: list[Up] = []
        self._accepting: asyncio.Task[None] | None = None
        welcome = dialect.welcome(session, tempo.heartbeat_seconds)
        self._welcomed = _digest(welcome)
        session.send(welcome)
        self._not_understood = NotUnderstood(session.member.label)
        self.counted: Callable[[str], None] = lambda kind: None
        self._last_write = False
        self._idle = Flag()
        self._idle.set()

    @property
    def outdated(self) -> bool:
        """Whether the Welcome would read differently now (keys rotated): only a new round tells it."""
        return self._welcomed != _digest(self.dialect.welcome(self.session, self._tempo.heartbeat_seconds))

    async def run(self) -> None:
        """Until the client hangs up (returns), or the stream fails or is ended (raises the `Failure`)."""
        try:
            async with asyncio.TaskGroup() as outer:
                writer = outer.create_task(self._write())
                try:
                    await self._talk()
                finally:
                    await self._let_finish(writer)
        except BaseExceptionGroup as group:
            raise_first(group)

    async def _talk(self) -> NoReturn:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell())
            group.create_task(self.session.until_over())
            await self._listen(group)
            raise _Closed

    async def _write(self) -> None:
        while not self._last_write:
            await self._write_one(await self.session.queue.get())

    async def _write_one(self, message: Down) -> None:
        self._idle.clear()
        try:
            await self._stream.write(message)
        except grpc.aio.BaseError:
            # gRPC's word for a stream that broke while we wrote; there is nobody left to tell.
            raise _Closed from None
        finally:
            self._idle.set()

    async def _let_finish(self, writer: asyncio.Task[None]) -> None:
        """A write that is cut off half-way leaves gRPC unable to send the status that says why the stream ends."""
        self._last_write = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITE_SECONDS):
                await self._idle.wait()
        writer.cancel()

    async def _listen(self, group: asyncio.TaskGroup) -> None:
        while (message := await self._stream.read()) is not grpc.aio.EOF:
            self._hear(message, group)
            del message

    def _hear(self, message: Any, group: asyncio.TaskGroup) -> None:
        self.session.heard()
        body = message.WhichOneof("body")
        if body == "probe_reply":
            self.session.probe_answered(message.probe_reply.nonce)
        elif body in _TAKEN_IN_TURN:
            self._queue_reports(message)
            # A task as long as there is something to accept: most streams report nothing for hours.
            if self._accepting is None:
                self._accepting = group.create_task(self._accept())
        elif body is None:
            self._not_understood.note(message)
            self.counted(self.session.member.kind)

    def _queue_reports(self, message: Up) -> None:
        if len(self._reports) >= _REPORTS_CAPACITY:
            label = self.session.member.label
            raise StreamOverflow(
                f"{label} reports faster than it can be written down", action="wait for acknowledgements"
            )
        self._reports.append(message)

    async def _tell(self) -> None:
        picture = await self._tell_all()
        while True:
            period = jittered(self._tempo.full_set_seconds, 0.1, self._random)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(period):
                    while True:
                        await self.session.stale.wait()
                        self.session.stale.clear()
                        picture = await self._patiently(self._tell_changes, picture)
            picture = await self._patiently(lambda _: self._tell_all(), picture)

    async def _tell_all(self) -> Picture:
        with self._precedence.telling():
            picture = await self.dialect.picture(self.session.member)
            self._say(self.dialect.full(picture), picture)
        return picture

    async def _tell_changes(self, held: Picture) -> Picture:
        with self._precedence.telling():
            picture = await self.dialect.picture(self.session.member, held)
            if picture.generation == held.generation:
                return held
            if picture.generation < held.generation:
                # Only a database that was restored goes back; no chain of changes leads there, and what is held may
                # bear the generation of something else.
                return await self._tell_all()
            changes = changes_between(held.items, held.generation, picture.items, picture.generation)
            self._say(self.dialect.changes(changes), picture)
            return picture

    def _say(self, message: Down, picture: Picture) -> None:
        self.session.send(message)
        self.session.told_generation = picture.generation

    async def _patiently(self, tell: Callable[[Picture], Any], held: Picture) -> Picture:
        """A database that is away for a while is no reason to send the whole fleet away."""
        try:
            picture: Picture = await tell(held)
        except Unavailable as failure:
            log.warning("desired state not read", member=self.session.member.label, error=str(failure))
            await self._clock.sleep(jittered(failure.retry_after_seconds + 1, 0.5, self._random))
            self.session.stale.set()
            return held
        return picture

    async def _accept(self) -> None:
        while self._reports:
            message = self._reports.pop(0)
            await self._precedence.stand_back()
            answer = await self._accept_one(message)
            if answer is not None:
                self.session.send(answer)
            elif message.HasField("reports"):
                self.session.send(self.dialect.acknowledgement(message.reports.sequence))
        self._accepting = None

    async def _accept_one(self, message: Up) -> Down | None:
        backoff = Backoff(self._random, initial_seconds=0.2, cap_seconds=5.0)
        give_up_at = self._clock.monotonic() + _ACCEPT_SECONDS
        while True:
            try:
                return await self.dialect.accept(self.session.member, message)
            except Unavailable:
                if self._clock.monotonic() >= give_up_at:
                    raise
                await self._clock.sleep(backoff.next_delay())


def _digest(message: Down) -> bytes:
    return hashlib.sha256(message.SerializeToString(deterministic=True)).digest()


def raise_first(group: BaseExceptionGroup[Any]) -> None:
    """Raise the one failure that stands for all that fell together; return if the client hung up. What is no
    `Failure` is a defect and goes on as it is.
    """
    failures, rest = group.split(Failure)
    closed, defects = (None, None) if rest is None else rest.split(_Closed)
    if defects is not None:
        raise defects
    if closed is not None or failures is None:
        return
    raise first_of(failures)
