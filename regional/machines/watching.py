"""What DHCP, TFTP, HTTP and loaders tell of machines: into the timeline, and to the centre what it should know.

Invariant: telling costs its caller nothing: no disk, no waiting. What is for the centre is written down together each
second; what has not been written when the process dies described the way, and decided nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque

from common.clock import Clock
from common.errors import Failure
from regional.boot_targets import SELF_CHECK_MAC, firmware_of
from regional.dhcp.events import DhcpSeen
from regional.machines.asking import Ask, said_serial
from regional.machines.ledger import Ledger
from regional.machines.model import Event, Sighting
from regional.machines.reports import Writer
from regional.machines.sightings import Sightings
from regional.machines.store import Report
from regional.machines.timeline import Timeline
from regional.machines.verdicts import Kind
from regional.tftp.events import TftpSeen

_WRITE_SECONDS = 1.0
_JUDGE_SECONDS = 10.0
_MOST_UNWRITTEN = 5000


class Watching:
    def __init__(self, ledger: Ledger, timeline: Timeline, writer: Writer, clock: Clock) -> None:
        self._ledger = ledger
        self._timeline = timeline
        self._writer = writer
        self._clock = clock
        self._sightings = Sightings()
        # From any thread; the oldest leave if nobody writes them down.
        self._unwritten: deque[Report] = deque(maxlen=_MOST_UNWRITTEN)
        timeline.noted = self._noted

    def dhcp(self, seen: DhcpSeen) -> None:
        if seen.mac == SELF_CHECK_MAC:
            return  # It takes no address and boots nothing, as it should.
        self._timeline.dhcp(seen)
        if seen.boots:
            firmware = firmware_of(seen.architectures) if seen.architectures else None
            name = str(firmware[0]) if firmware is not None else ""
            uuid = str(seen.uuid) if seen.uuid is not None else ""
            self._saw(Sighting(seen.mac, "", uuid, seen.address or "", name, by="dhcp"))

    def tftp(self, seen: TftpSeen) -> None:
        self._timeline.tftp(seen)

    def http(self, client: str, path: str, status: int, sent: int) -> None:
        self._timeline.http(client, path, status, sent)

    def asked(self, mac: str, address: str, *, ipxe: bool) -> None:
        """For its first script, which decides nothing."""
        if address:
            self._timeline.located(mac, address)
        if ipxe:
            self._timeline.note(mac, "script", "iPXE asks for its script", kind=Kind.SETTLED)

    def said(self, ask: Ask) -> None:
        self.asked(ask.mac, ask.address, ipxe=False)
        serial = said_serial(ask.serial or "")
        self._saw(Sighting(ask.mac, serial, ask.uuid, ask.address, ask.architecture, by="http"))

    async def run(self) -> None:
        """For the whole life of the process."""
        judged = 0.0
        while True:
            await self._clock.sleep(_WRITE_SECONDS)
            now = self._clock.monotonic()
            if now - judged >= _JUDGE_SECONDS:
                judged = now
                await asyncio.to_thread(self._look)
            await self.write_down()

    async def write_down(self) -> None:
        """What was told so far; if the disk refuses, it is tried again."""
        reports = [self._unwritten.popleft() for _ in range(len(self._unwritten))]
        if not reports:
            return
        try:
            await asyncio.to_thread(self._ledger.report, *reports)
        except Failure:
            self._unwritten.extendleft(reversed(reports))

    def _look(self) -> None:
        self._timeline.judge()
        try:
            self._ledger.sweep(self._clock.now().timestamp())
        except Failure:
            return  # the disk refuses; the next look does it

    def _saw(self, seen: Sighting) -> None:
        worth = self._sightings.worth_saying(seen, self._clock.monotonic())
        if worth is not None:
            target = self._ledger.target(seen.mac)
            machine_id = target.machine_id if target is not None else ""
            self._unwritten.append(self._writer.sighting(machine_id, worth, self._clock.now().timestamp()))

    def _noted(self, mac: str, event: Event) -> None:
        target = self._ledger.target(mac)
        # Of strangers only what is wrong with them; steps and phases of installations are reports of their own.
        if event.stage not in ("install", "step") and (target is not None or event.stage == "verdict"):
            machine_id = target.machine_id if target is not None else ""
            self._unwritten.append(self._writer.event(machine_id, mac, event))
