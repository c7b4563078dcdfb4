"""Reports of machines on their way to the centre: kept until it acknowledged them, one batch at a time.

Invariant: a report leaves the disk only by its acknowledgement; lost batches and lost acknowledgements are sent again,
and the centre knows each by its id. So it counts once, whoever was killed when.
"""

from __future__ import annotations

import asyncio

import structlog

from common.attachment import Sender
from common.clock import Clock
from common.errors import Failure
from common.patience import OutboxOverflow, RoundEnded
from proto.regional.v1 import machines_pb2 as pb
from proto.regional.v1 import regional_pb2
from regional.machines.store import Store

log = structlog.get_logger()

# What machines.proto allows one message.
_MOST = 200
_MOST_BYTES = 1_000_000
_AGAIN_SECONDS = 5.0


class Delivery:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._due = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sender: Sender[regional_pb2.RegionalMessage] | None = None
        self._sequence = 0
        self._in_flight: tuple[int, ...] = ()

    def wake(self) -> None:
        """There is something to send; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._due.set)

    def begin_round(self, sender: Sender[regional_pb2.RegionalMessage]) -> None:
        """A new round: what was in flight may be lost."""
        self._sender, self._in_flight = sender, ()
        self._store.unsend()
        self._due.set()

    def end_round(self) -> None:
        self._sender = None

    async def acknowledged(self, ack: pb.MachineReportsAck) -> None:
        """An acknowledgement of anything but the batch in flight is an echo of an earlier round."""
        if ack.sequence != self._sequence or not self._in_flight:
            return
        for refused in ack.refused:
            log.warning("the centre refused a report of a machine", report=refused.id, reason=refused.reason[:300])
        numbers, self._in_flight = self._in_flight, ()
        try:
            await asyncio.to_thread(self._store.forget, numbers)
        except Failure as failure:
            # They are sent again, and the centre knows them.
            log.error("acknowledged reports could not be removed", error=str(failure))
        self._due.set()

    async def run(self) -> None:
        """For the whole life of the process."""
        self._loop = asyncio.get_running_loop()
        self._due.set()
        while True:
            await self._due.wait()
            self._due.clear()
            if self._sender is None or self._in_flight:
                continue
            try:
                await self._send(self._sender)
            except Failure as failure:
                log.error("reports of machines could not be read", error=str(failure))
                await self._clock.sleep(_AGAIN_SECONDS)
                self._due.set()

    async def _send(self, sender: Sender[regional_pb2.RegionalMessage]) -> None:
        batch = await asyncio.to_thread(self._store.unsent, _MOST, _MOST_BYTES)
        if not batch or self._sender is not sender:
            return
        self._sequence += 1
        self._in_flight = tuple(number for number, _ in batch)
        reports = pb.MachineReports(
            sequence=self._sequence, reports=[pb.MachineReport.FromString(body) for _, body in batch]
        )
        try:
            sender.send(regional_pb2.RegionalMessage(machines=reports))
        except (RoundEnded, OutboxOverflow):
            self._sender, self._in_flight = None, ()  # the next round sends them again
