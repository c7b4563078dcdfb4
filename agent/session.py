"""The agent's side of its attachment: desired state and endpoints come down, reports go up until they are acknowledged.

The round itself (dialling, heartbeats, probes, the next try) is `common.attachment`'s. Invariant: what comes down is
journalled before the next message is read; what goes up is sent one batch at a time and kept until acknowledged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc.aio
import structlog

from agent.cut_off import CutOff
from agent.desired import DesiredBook
from agent.inventory_model import HostFacts
from agent.inventory_wire import facts_message
from agent.reporter import Reporter
from common.attachment import Dialect, Sender
from common.clock import Clock
from common.errors import Stale
from common.patience import OutboxOverflow, RoundEnded
from common.protocol_version import VERSION, NotUnderstood
from proto.agent.v1 import agent_pb2, agent_pb2_grpc, channels_pb2, commands_pb2
from proto.edge.v1 import edge_pb2

log = structlog.get_logger()

# Progress moves with every piece; five times a second is more than people can watch.
_REPORT_SECONDS = 0.2
# Tokens live for a day; a source that rejects every one of them must not make us attach again and again.
_RESYNC_SECONDS = 60.0


class FullSetWanted(Stale):
    """Content tokens are rejected: the next round of attachment brings new ones."""

    code = "full_set_wanted"


class Session:
    """Handler of `common.attachment`."""

    def __init__(self, book: DesiredBook, reporter: Reporter, clock: Clock) -> None:
        self._book = book
        self._reporter = reporter
        self._clock = clock
        self._sender: Sender[agent_pb2.AgentMessage] | None = None
        self.not_understood = NotUnderstood("the control plane")
        self._resync_wanted = False
        self._resynced_at = float("-inf")
        self.rounds = 0
        self._heard = False
        self._alone_since = clock.monotonic()
        # Given what is to be done once; journals it.
        self.commanded: Callable[[commands_pb2.Commands], Awaitable[None]] = _nothing_is_done
        # Told each content that the centre wants back.
        self.returning: Callable[[edge_pb2.ReturnContent], None] = lambda _: None
        # Told each channel that somebody at the centre wants.
        self.opening: Callable[[channels_pb2.OpenChannel], None] = lambda _: None

    @property
    def attached(self) -> bool:
        return self._sender is not None

    def cut_off(self) -> CutOff:
        """For how long nobody has told us what is wanted."""
        alone = 0.0 if self.attached else max(self._clock.monotonic() - self._alone_since, 0.001)
        return CutOff(alone, self._heard)

    def want_full_set(self) -> None:
        """End this round at the next message from the control plane, at most once a minute."""
        self._resync_wanted = True

    async def welcomed(self, welcome: agent_pb2.PlaneMessage, sender: Sender[agent_pb2.AgentMessage]) -> None:
        await self._book.welcome(welcome.welcome)
        self._resync_wanted = False
        self._resynced_at = self._clock.monotonic()
        self._sender = sender
        self.rounds += 1
        self._reporter.begin_round()
        log.info("attached to the control plane", host=welcome.welcome.host_id, idc=welcome.welcome.idc)

    async def received(self, message: agent_pb2.PlaneMessage) -> None:
        """Raises `Stale` when changes do not apply: the next round begins with a full set."""
        match message.WhichOneof("body"):
            case "set":
                await self._book.replace(message.set)
                self._heard = True
            case "changes":
                await self._book.change(message.changes)
            case "reports_ack":
                self._reporter.acknowledged(message.reports_ack.sequence)
            case "limits":
                await self._book.limit(message.limits)
            case "regionals":
                await self._book.regionals(message.regionals)
            case "commands":
                await self.commanded(message.commands)
            case "return_content":
                self.returning(message.return_content)
            case "open_channel":
                self.opening(message.open_channel)
            case _:
                self.not_understood.note(message)
        if self._resync_wanted and self._clock.monotonic() - self._resynced_at >= _RESYNC_SECONDS:
            raise FullSetWanted("content tokens were rejected", action="attaching again brings new ones")

    async def ended(self) -> None:
        if self.attached:
            self._alone_since = self._clock.monotonic()
        self._sender = None

    async def report_forever(self) -> None:
        """Send what changed, a batch at a time; run for the whole life of the process."""
        while True:
            await self._reporter.due.wait()
            self._reporter.due.clear()
            batch = self._reporter.next_batch() if self._sender is not None else None
            if batch is not None:
                self._send(agent_pb2.AgentMessage(reports=batch.message()))
                await self._clock.sleep(_REPORT_SECONDS)

    def say(self, message: agent_pb2.AgentMessage) -> bool:
        """What needs no acknowledgement: sent now, or not at all if nobody is attached. Whether it was sent."""
        self._send(message)
        return self._sender is not None

    def _send(self, message: agent_pb2.AgentMessage) -> None:
        try:
            if self._sender is not None:
                self._sender.send(message)
        except (RoundEnded, OutboxOverflow):
            self._sender = None  # the next round sends it again
            self._alone_since = self._clock.monotonic()


async def _nothing_is_done(_commands: commands_pb2.Commands) -> None:
    """Until somebody takes the place; the control plane tells it again on the next stream."""


def dialect(
    process_id: str, version: str, facts: Callable[[], HostFacts], book: DesiredBook
) -> Dialect[agent_pb2.AgentMessage, agent_pb2.PlaneMessage]:
    """How an agent says what every attachment says."""

    def hello() -> agent_pb2.AgentMessage:
        return agent_pb2.AgentMessage(
            hello=agent_pb2.Hello(
                process_id=process_id,
                version=version,
                facts=facts_message(facts()),
                generation=book.current.generation,
                protocol_version=VERSION,
                image_tokens=True,
            )
        )

    def heartbeat(sequence: int) -> agent_pb2.AgentMessage:
        beat = agent_pb2.Heartbeat(sequence=sequence, generation=book.current.generation)
        return agent_pb2.AgentMessage(heartbeat=beat)

    def attach(
        channel: grpc.aio.Channel,
    ) -> grpc.aio.StreamStreamCall[agent_pb2.AgentMessage, agent_pb2.PlaneMessage]:
        return agent_pb2_grpc.AgentStub(channel).Attach()

    return Dialect(
        open=attach,
        hello=hello,
        heartbeat=heartbeat,
        probe_reply=lambda nonce: agent_pb2.AgentMessage(probe_reply=agent_pb2.ProbeReply(nonce=nonce)),
        heartbeat_seconds=lambda down: down.welcome.heartbeat_seconds if down.HasField("welcome") else None,
        probe_nonce=lambda down: down.probe.nonce if down.HasField("probe") else None,
    )
