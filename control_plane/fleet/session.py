"""One attached stream, as the rest of the fleet sees it: who it is, what waits to be sent, and how it is ended.

Invariant: whoever wants to say something puts it into the bounded queue, and one task writes it. A queue that overflows
ends the stream; the other side attaches again and gets everything anew.

There are thousands of these: what is kept for each is counted in `benchmarks/fleet`.
"""

from __future__ import annotations

import asyncio
from typing import NoReturn

from common.clock import Clock
from common.errors import Conflict, Failure, Unavailable
from control_plane.fleet.model import Member
from control_plane.fleet.waiting import Flag, Mailbox, MailboxFull
from proto.agent.v1 import agent_pb2
from proto.content.v1 import content_pb2
from proto.regional.v1 import regional_pb2

Up = agent_pb2.AgentMessage | regional_pb2.RegionalMessage
Down = agent_pb2.PlaneMessage | regional_pb2.PlaneMessage

QUEUE_CAPACITY = 256


class StreamOverflow(Unavailable):
    code = "stream_overflow"


class StreamReplaced(Unavailable):
    """A newer stream of the same process took its place."""

    code = "stream_replaced"


class IdentityInUse(Conflict):
    """Two processes show the same certificate; the one that was there first stays. Clients know this code
    (common/patience.py).
    """

    code = "identity_in_use"


class Session:
    """`process_id` is what the process says of itself; `id` is ours."""

    __slots__ = (
        "__weakref__",
        "_clock",
        "_failure",
        "_heard_at",
        "_over",
        "_probes",
        "_woken_for",
        "id",
        "member",
        "process_id",
        "queue",
        "stale",
        "told_generation",
        "told_limits",
        "told_regionals",
    )

    def __init__(self, member: Member, session_id: str, process_id: str, clock: Clock) -> None:
        self.member = member
        self.id = session_id
        self.process_id = process_id
        self.queue: Mailbox[Down] = Mailbox(QUEUE_CAPACITY)
        # Set when the desired state may have a new generation.
        self.stale = Flag()
        self._woken_for = 0
        self.told_generation = 0
        self.told_regionals: Down | None = None
        self.told_limits: content_pb2.Limits | None = None
        self._clock = clock
        self._heard_at = clock.monotonic()
        self._failure: Failure | None = None
        self._over = Flag()
        self._probes: dict[str, asyncio.Event] = {}

    def send(self, message: Down) -> None:
        """Queue `message`; ends the stream if there is no room."""
        try:
            self.queue.put_nowait(message)
        except MailboxFull:
            self.end(StreamOverflow(f"{self.member.label} does not read what it is sent", action="it attaches again"))

    def end(self, failure: Failure) -> None:
        """End the stream with `failure`; the first reason counts."""
        if self._failure is None:
            self._failure = failure
            self._over.set()

    @property
    def over(self) -> bool:
        return self._over.is_set()

    async def until_over(self) -> NoReturn:
        """Raises the failure that it was ended with."""
        await self._over.wait()
        raise self._failure or Unavailable("the stream ended", action="it is attached again")

    def changed(self, generation: int) -> None:
        """The desired state has that generation, as whoever committed it says, and again whoever passed it on: only the
        first word wakes, for what is read after it is never older.
        """
        if generation > self._woken_for:
            self._woken_for = generation
            self.stale.set()

    def differs(self, generation: int) -> None:
        """The database has another generation than what was told, also an older one, if it was restored."""
        self._woken_for = generation
        self.stale.set()

    def heard(self) -> None:
        self._heard_at = self._clock.monotonic()

    @property
    def silent_seconds(self) -> float:
        return self._clock.monotonic() - self._heard_at

    async def answers(self, nonce: str, probe: Down, seconds: float) -> bool:
        """Whether the process on the other end answers `probe` in time."""
        answered = self._probes[nonce] = asyncio.Event()
        try:
            self.send(probe)
            async with asyncio.timeout(seconds):
                await answered.wait()
        except TimeoutError:
            return False
        finally:
            del self._probes[nonce]
        return not self.over

    def probe_answered(self, nonce: str) -> None:
        if nonce in self._probes:
            self._probes[nonce].set()
