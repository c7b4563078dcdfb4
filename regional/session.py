"""The regional's side of its attachment: orders and keys come down, order states go up until they are acknowledged.

The round itself (dialling, heartbeats, probes, the next try) is `common.attachment`'s. Invariant: the keys that verify
content tokens and statements are journalled before they are used, so that a restart while the centre is away verifies
the same ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import grpc.aio
import structlog

from common.attachment import Dialect, Sender
from common.bittorrent import SMALLEST_SWARM_BYTES
from common.clock import Clock
from common.content_statement import StatementVerifier
from common.content_token import ContentVerifier
from common.limit_messages import rules_from
from common.patience import OutboxOverflow, RoundEnded
from common.protocol_version import VERSION, NotUnderstood
from proto.content.v1 import content_pb2
from proto.edge.v1 import edge_pb2
from proto.regional.v1 import machines_pb2, regional_pb2, regional_pb2_grpc
from regional.centre import Centre
from regional.edge import Edge
from regional.holdings import Holdings
from regional.journal import Journal
from regional.model import ContentKey, OrderState, Phase
from regional.orders import OrderBook
from regional.reports import UnacknowledgedReports

log = structlog.get_logger()

# Progress moves with every piece; twice a second is enough for people to watch.
_REPORT_SECONDS = 0.5

_PHASES = {
    Phase.WAITING: regional_pb2.ORDER_PHASE_WAITING,
    Phase.FETCHING: regional_pb2.ORDER_PHASE_FETCHING,
    Phase.HELD: regional_pb2.ORDER_PHASE_HELD,
    Phase.FAILED: regional_pb2.ORDER_PHASE_FAILED,
}


class MachineReports(Protocol):
    """Who has reports of bare machines to send."""

    def begin_round(self, sender: Sender[regional_pb2.RegionalMessage]) -> None: ...

    def end_round(self) -> None: ...

    async def acknowledged(self, ack: machines_pb2.MachineReportsAck) -> None: ...


class Session:
    """Handler of `common.attachment`. `enrolled_url`: where contents are when a Welcome names no other place. With
    `holdings` also what nobody ordered is reported.
    """

    def __init__(
        self,
        book: OrderBook,
        edge: Edge,
        centre: Centre,
        verifier: ContentVerifier,
        statements: StatementVerifier,
        journal: Journal,
        clock: Clock,
        enrolled_url: str,
        holdings: Holdings | None = None,
    ) -> None:
        self._book = book
        self._edge = edge
        self._centre = centre
        self._verifier = verifier
        self._statements = statements
        self._journal = journal
        self._clock = clock
        self._enrolled_url = enrolled_url
        self._reports = UnacknowledgedReports()
        self._due = asyncio.Event()
        self._sender: Sender[regional_pb2.RegionalMessage] | None = None
        self.not_understood = NotUnderstood("the control plane")
        self._welcome: regional_pb2.Welcome | None = None
        self.rounds = 0
        # Told each content that the centre wants back.
        self.returning: Callable[[edge_pb2.ReturnContent], None] = lambda _: None
        self._holdings = holdings
        self.machines: MachineReports | None = None
        # What is wrong here now; `alarmed` when it changed.
        self.alarms: Callable[[], tuple[str, ...]] = tuple
        self._told_alarms: tuple[str, ...] | None = None
        book.changed = self._order_changed
        if holdings is not None:
            holdings.changed = self._order_changed

    @property
    def attached(self) -> bool:
        return self._sender is not None

    async def start(self) -> None:
        """Use what the last Welcome of an earlier process said."""
        welcome = await asyncio.to_thread(self._journal.load_welcome)
        if welcome is not None:
            self._use(welcome)
        limits = await asyncio.to_thread(self._journal.load_limits)
        if limits is not None:
            self._edge.links.rules = rules_from(limits)

    async def welcomed(self, welcome: regional_pb2.PlaneMessage, sender: Sender[regional_pb2.RegionalMessage]) -> None:
        said = welcome.welcome
        self.rounds += 1
        lasting = regional_pb2.Welcome(
            regional_id=said.regional_id,
            idc=said.idc,
            content_url=said.content_url,
            verifying_keys=said.verifying_keys,
            smallest_swarm_bytes=said.smallest_swarm_bytes,
        )
        if lasting != self._welcome:
            await asyncio.to_thread(self._journal.save_welcome, lasting)
            self._use(lasting)
        self._edge.retry_now()
        unordered = self._holdings.keys() if self._holdings is not None else []
        self._reports.begin_round([*self._book.keys(), *unordered])
        self._sender, self._told_alarms = sender, None
        self._due.set()
        if self.machines is not None:
            self.machines.begin_round(sender)
        log.info("attached to the centre", regional=said.regional_id, idc=said.idc)

    async def received(self, message: regional_pb2.PlaneMessage) -> None:
        """Raises `Stale` when changes do not apply: the next round begins with a full set."""
        match message.WhichOneof("body"):
            case "set":
                await self._book.replace(message.set)
                self._edge.retry_now()
            case "changes":
                await self._book.change(message.changes)
            case "limits":
                await self._limit(message.limits)
            case "reports_ack":
                self._reports.acknowledged(message.reports_ack.sequence)
                self._due.set()
            case "machines_ack":
                if self.machines is not None:
                    await self.machines.acknowledged(message.machines_ack)
            case "return_content":
                self.returning(message.return_content)
            case _:
                self.not_understood.note(message)

    async def _limit(self, limits: content_pb2.Limits) -> None:
        rules = rules_from(limits)
        if rules != self._edge.links.rules:
            await asyncio.to_thread(self._journal.save_limits, limits)
            self._edge.links.rules = rules
            log.info("limits received", rules=len(rules))

    async def ended(self) -> None:
        self._sender = None
        if self.machines is not None:
            self.machines.end_round()

    async def report_forever(self) -> None:
        """Send what changed, a batch at a time; run for the whole life of the process."""
        while True:
            await self._due.wait()
            self._due.clear()
            if self._sender is not None:
                self._tell_alarms(self._sender)
            if self._sender is None or not self._reports.due:
                continue
            await self._send(self._sender)
            await self._clock.sleep(_REPORT_SECONDS)
            self._due.set()

    async def _send(self, sender: Sender[regional_pb2.RegionalMessage]) -> None:
        sequence, keys = self._reports.next_batch()
        states = [state for key in keys if (state := self._state(key)) is not None]
        reports = regional_pb2.Reports(sequence=sequence, orders=[_report(state) for state in states])
        try:
            sender.send(regional_pb2.RegionalMessage(reports=reports))
        except (RoundEnded, OutboxOverflow):
            self._sender = None  # The next round begins with everything.

    def alarmed(self) -> None:
        self._due.set()

    def _tell_alarms(self, sender: Sender[regional_pb2.RegionalMessage]) -> None:
        said = self.alarms()
        if said == self._told_alarms:
            return
        try:
            sender.send(regional_pb2.RegionalMessage(condition=regional_pb2.Condition(warnings=said)))
            self._told_alarms = said
        except (RoundEnded, OutboxOverflow):
            self._sender = None  # The next round says it again.

    def _state(self, key: ContentKey) -> OrderState | None:
        state = self._book.state(key)
        return state if state is not None or self._holdings is None else self._holdings.state(key)

    def _order_changed(self, key: ContentKey) -> None:
        self._reports.mark(key)
        self._due.set()

    def _use(self, welcome: regional_pb2.Welcome) -> None:
        self._welcome = welcome
        keys = {key.key_id: key.public_key_pem for key in welcome.verifying_keys}
        self._verifier.replace_keys(keys)
        self._statements.replace_keys(keys)
        self._centre.base_url = welcome.content_url or self._enrolled_url
        self._edge.swarm_bytes = welcome.smallest_swarm_bytes or SMALLEST_SWARM_BYTES


def dialect(
    book: OrderBook, process_id: str, version: str, content_url: str, swarm_url: str, peer_address: str
) -> Dialect[regional_pb2.RegionalMessage, regional_pb2.PlaneMessage]:
    """How a regional says what every attachment says. The URLs are what agents of the IDC dial."""

    def hello() -> regional_pb2.RegionalMessage:
        return regional_pb2.RegionalMessage(
            hello=regional_pb2.Hello(
                process_id=process_id,
                version=version,
                content_url=content_url,
                swarm_url=swarm_url,
                peer_address=peer_address,
                generation=book.generation,
                protocol_version=VERSION,
                image_tokens=True,
            )
        )

    def heartbeat(sequence: int) -> regional_pb2.RegionalMessage:
        return regional_pb2.RegionalMessage(
            heartbeat=regional_pb2.Heartbeat(sequence=sequence, generation=book.generation)
        )

    def attach(
        channel: grpc.aio.Channel,
    ) -> grpc.aio.StreamStreamCall[regional_pb2.RegionalMessage, regional_pb2.PlaneMessage]:
        return regional_pb2_grpc.RegionalStub(channel).Attach()

    return Dialect(
        open=attach,
        hello=hello,
        heartbeat=heartbeat,
        probe_reply=lambda nonce: regional_pb2.RegionalMessage(probe_reply=regional_pb2.ProbeReply(nonce=nonce)),
        heartbeat_seconds=lambda down: down.welcome.heartbeat_seconds if down.HasField("welcome") else None,
        probe_nonce=lambda down: down.probe.nonce if down.HasField("probe") else None,
    )


def _report(state: OrderState) -> regional_pb2.OrderReport:
    return regional_pb2.OrderReport(
        tenant_id=state.key.tenant_id,
        digest=str(state.key.digest),
        size_bytes=state.size_bytes,
        held_bytes=state.held_bytes,
        phase=_PHASES[state.phase],
        from_centre_bytes=state.from_centre_bytes,
        detail=state.detail,
    )
