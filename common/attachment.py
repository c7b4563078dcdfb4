"""One round of attachment of an edge process to the control plane, and the loop that starts the next round.

Invariant: any failure ends the whole round; nothing is repaired inside it. The next round presents itself anew and
begins with a full set, so neither side guesses what the other has. One task writes to the stream, through a bounded
queue; a queue that overflows ends the round.

The two services (agent, regional) speak different messages of the same shape; a `Dialect` tells this module the little
it must know of them:

    dialect = Dialect[agent_pb2.AgentMessage, agent_pb2.PlaneMessage](
        open=lambda channel: agent_pb2_grpc.AgentStub(channel).Attach(),
        hello=lambda: agent_pb2.AgentMessage(hello=agent_pb2.Hello(process_id=process_id, ...)),
        heartbeat=lambda sequence: agent_pb2.AgentMessage(heartbeat=agent_pb2.Heartbeat(sequence=sequence, ...)),
        probe_reply=lambda nonce: agent_pb2.AgentMessage(probe_reply=agent_pb2.ProbeReply(nonce=nonce)),
        heartbeat_seconds=lambda down: down.welcome.heartbeat_seconds if down.HasField("welcome") else None,
        probe_nonce=lambda down: down.probe.nonce if down.HasField("probe") else None,
    )
    attachment = Attachment(dialect, handler, identity_dir, locator.attach_address, clock, random)
    lifecycle.spawn("attachment", attach_forever(attachment, clock))
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NoReturn, Protocol, TypeVar

import grpc.aio
import structlog

from common.backoff import jittered
from common.channels import identified_channel
from common.clock import Clock
from common.errors import Failure, Internal, Unauthenticated, Unavailable
from common.failure_groups import first_of
from common.lifecycle import being_cancelled
from common.patience import NotWelcomed, OutboxOverflow, Patience, RoundEnded
from common.protocol_version import require_spoken
from common.rpc_failures import failure_of
from common.tls import Identity

log = structlog.get_logger()

Up = TypeVar("Up")
Down = TypeVar("Down")
Up_contra = TypeVar("Up_contra", contravariant=True)
Up_co = TypeVar("Up_co", covariant=True)
Down_contra = TypeVar("Down_contra", contravariant=True)

_QUEUE_CAPACITY = 256
_HEARTBEAT_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Dialect(Generic[Up, Down]):
    """How to say, in one service's messages, what every attachment says. The callables are called anew each time, so
    that `hello` and `heartbeat` tell the present state.
    """

    open: Callable[[grpc.aio.Channel], grpc.aio.StreamStreamCall[Up, Down]]
    hello: Callable[[], Up]
    heartbeat: Callable[[int], Up]
    probe_reply: Callable[[str], Up]
    heartbeat_seconds: Callable[[Down], float | None]
    """The period if the message is the Welcome, None otherwise."""
    probe_nonce: Callable[[Down], str | None]
    """The nonce if the message is a Probe, None otherwise."""
    protocol_version: Callable[[Any], int] = lambda down: int(down.welcome.protocol_version)
    """Of the control plane, as its Welcome says; 0 if it does not."""


class Sender(Protocol[Up_contra]):
    """The way up, valid for one round."""

    def send(self, message: Up_contra) -> None:
        """Queue `message`. Raises `RoundEnded` after the round, `OutboxOverflow` (which also ends the round) when 256
        messages wait. That it was queued does not mean that it arrived: only the plane's acknowledgement does.
        """
        ...


class Handler(Protocol[Up_co, Down_contra]):
    """What a service does with the stream. The methods are called one after the other, never at once; while one runs,
    nothing further is read, so long work belongs into another task. A raised `Failure` (a gap: `Stale`) or `OSError`
    ends the round; anything else is a defect and ends the process.
    """

    async def welcomed(self, welcome: Down_contra, sender: Sender[Up_co]) -> None:
        """The round began. Queue here what was not acknowledged in the last one."""
        ...

    async def received(self, message: Down_contra) -> None:
        """Every message but Welcome and Probe."""
        ...

    async def ended(self) -> None:
        """The round is over; called exactly once for each `welcomed` that began. Must not raise."""
        ...


class _Outbox(Generic[Up]):
    def __init__(self) -> None:
        self.queue: asyncio.Queue[Up] = asyncio.Queue(_QUEUE_CAPACITY)
        self.overflown = asyncio.Event()
        self.open = True

    def send(self, message: Up) -> None:
        if not self.open:
            raise RoundEnded("this round of attachment is over", action="send it again in the next round")
        try:
            self.queue.put_nowait(message)
        except asyncio.QueueFull:
            self.overflown.set()
            raise _overflow() from None


def _overflow() -> OutboxOverflow:
    return OutboxOverflow(
        f"{_QUEUE_CAPACITY} messages wait for the control plane", action="attaching again begins with a fresh picture"
    )


@dataclass
class Attachment(Generic[Up, Down]):
    """Everything one round needs. `address` gives host:port of the attach listener; the identity is loaded anew from
    `identity_dir` for each round, so a renewed certificate is used from the next round on.
    """

    dialect: Dialect[Up, Down]
    handler: Handler[Up, Down]
    identity_dir: Path
    address: Callable[[], Awaitable[str]]
    clock: Clock
    random: Callable[[], float]
    patience: Patience = field(init=False)

    def __post_init__(self) -> None:
        self.patience = Patience(self.random)

    async def run_round(self) -> NoReturn:
        """Attach and serve the stream until it ends, which always raises a `Failure`: `RoundEnded` when the plane
        closed the stream in good order.
        """
        identity = await asyncio.to_thread(Identity.load, self.identity_dir)
        if identity is None:
            raise Unauthenticated(f"there is no identity in {self.identity_dir}", action="enrol with a join token")
        self._refuse_expired(identity)
        target = await self.address()
        async with identified_channel(target, identity) as channel:
            await self.serve(self.dialect.open(channel), target)

    async def serve(self, call: grpc.aio.StreamStreamCall[Up, Down], target: str) -> NoReturn:
        """The round on a stream that is open already; raises like `run_round`. `target` is for people."""
        try:
            await self._serve(call, target)
        except BaseExceptionGroup as group:
            raise _reason(group, f"the attachment to {target}") from None
        finally:
            call.cancel()

    async def _serve(self, call: grpc.aio.StreamStreamCall[Up, Down], target: str) -> NoReturn:
        outbox = _Outbox[Up]()
        welcomed = False
        try:
            async with asyncio.TaskGroup() as group:
                outbox.send(self.dialect.hello())
                group.create_task(_write(call, outbox))
                group.create_task(_fail_on_overflow(outbox))
                welcome, period = await self._welcome(call, target)
                welcomed = True
                await self.handler.welcomed(welcome, outbox)
                group.create_task(self._beat(outbox, period))
                await self._read(call, outbox)
                raise RoundEnded(f"{target} closed the stream", action="it is attached again")
        finally:
            outbox.open = False
            if welcomed:
                await self.handler.ended()

    async def _welcome(self, call: grpc.aio.StreamStreamCall[Up, Down], target: str) -> tuple[Down, float]:
        try:
            async with asyncio.timeout(self.patience.welcome_seconds):
                message: Any = await call.read()
        except TimeoutError:
            raise NotWelcomed(
                f"{target} did not answer within {self.patience.welcome_seconds:.0f} s",
                action="it is tried again, and given more time; check the address and the network",
            ) from None
        if message is grpc.aio.EOF:
            raise RoundEnded(f"{target} closed the stream", action="it is attached again")
        period = self.dialect.heartbeat_seconds(message)
        if period is None or period <= 0:
            raise Internal(f"{target} did not begin with Welcome", action="update this service or the control plane")
        require_spoken(self.dialect.protocol_version(message), f"the control plane at {target}")
        return message, period

    async def _read(self, call: grpc.aio.StreamStreamCall[Up, Down], outbox: _Outbox[Up]) -> None:
        while True:
            message: Any = await call.read()
            if message is grpc.aio.EOF:
                return
            nonce = self.dialect.probe_nonce(message)
            if nonce is not None:
                outbox.send(self.dialect.probe_reply(nonce))
            else:
                await self.handler.received(message)

    async def _beat(self, outbox: _Outbox[Up], period: float) -> None:
        sequence = 0
        while True:
            await self.clock.sleep(jittered(period, _HEARTBEAT_JITTER, self.random))
            sequence += 1
            outbox.send(self.dialect.heartbeat(sequence))

    def _refuse_expired(self, identity: Identity) -> None:
        expires_at = identity.validity[1]
        if self.clock.now() >= expires_at:
            raise Unauthenticated(
                f"the certificate of {identity.name.uri()} expired at {expires_at:%Y-%m-%dT%H:%M:%SZ}",
                action="enrol again with a join token made for this name",
            )


async def attach_forever(attachment: Attachment[Up, Down], clock: Clock) -> NoReturn:
    """Attach, and again after every failure, until cancelled. Workloads are no concern of this loop: whatever the
    plane answers, what runs keeps running.
    """
    while True:
        began = clock.monotonic()
        try:
            await attachment.run_round()
        except Failure as failure:
            if being_cancelled():
                raise asyncio.CancelledError from failure
            delay = attachment.patience.after(failure, clock.monotonic() - began)
            log.warning("attachment ended", error=str(failure), code=failure.code, retry_in_seconds=round(delay, 2))
        await clock.sleep(delay)


async def _write(call: grpc.aio.StreamStreamCall[Up, Down], outbox: _Outbox[Up]) -> None:
    while True:
        message = await outbox.queue.get()
        # The call ended: its status is the reader's to raise.
        with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            await call.write(message)


async def _fail_on_overflow(outbox: _Outbox[Any]) -> None:
    # Also when the sender is outside of the round's tasks and swallows the failure.
    await outbox.overflown.wait()
    raise _overflow()


def _reason(group: BaseExceptionGroup[Any], what: str) -> BaseException:
    """The one failure that stands for all that fell together; a defect among them goes on as it is."""
    expected, defects = group.split((Failure, OSError, grpc.aio.AioRpcError))
    if defects is not None or expected is None:
        return group
    first = first_of(expected)
    if isinstance(first, Failure):
        return first
    if isinstance(first, grpc.aio.AioRpcError):
        return failure_of(first, what)
    return Unavailable(f"this host failed: {first}", action="check its disk and network", retry_after_seconds=5.0)
