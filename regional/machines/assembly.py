"""The part of bare machines, put together for the composition root."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from common.attachment import Sender
from common.clock import Clock
from common.digest import Digest
from common.identifiers import new_id
from common.lifecycle import Lifecycle
from proto.regional.v1 import machines_pb2 as pb
from proto.regional.v1 import regional_pb2
from regional.alarms import Alarms
from regional.boot_targets import BootMap
from regional.cache import Cache
from regional.machines.boot_files import BootFilesOf, Environment
from regional.machines.choosing import MachineBoots
from regional.machines.delivery import Delivery
from regional.machines.device import Device
from regional.machines.device_routes import DeviceRoutes
from regional.machines.doorway import Doorway, Rules
from regional.machines.ledger import Ledger
from regional.machines.links import Links
from regional.machines.powering import PowerDesk
from regional.machines.reports import Writer
from regional.machines.routes import BootRoutes
from regional.machines.scripts import Scripts
from regional.machines.store import Store
from regional.machines.tftp_files import MachineFiles
from regional.machines.timeline import Timeline
from regional.machines.timeline_routes import TimelineRoutes
from regional.machines.watching import Watching
from regional.metrics import Metrics
from regional.orders import OrderBook
from regional.power import BmcPort
from regional.power.deeds import Deeds
from regional.power.networks import networks_of
from regional.session import Session
from regional.settings import RegionalSettings


class Machines:
    """`start`, `serve_at` when the port is known, `join` when there is a cache. What is asked before then is answered
    by what is there.
    """

    def __init__(self, settings: RegionalSettings, clock: Clock, bmcs: BmcPort) -> None:
        self._clock = clock
        self._cache: Cache | None = None
        self.alarms = Alarms()
        self.alarms.watch(lambda: [f"no machine can begin to install: {text}"] if (text := self.store.trouble) else [])
        static_root = settings.static_root
        self.store = Store(settings.data / "machines" / "machines.db")
        writer = Writer(lambda: new_id(clock))
        self.ledger = Ledger(self.store, writer)
        rules = Rules(settings.boot_strangers == "discover", settings.installs_at_once)
        self.doorway = Doorway(self.ledger, rules, lambda: secrets.token_urlsafe(32), self._held)
        self.device = Device(self.ledger, self.doorway, writer, clock)
        environment = Environment(settings.installer_kernel, settings.installer_initrd, settings.installer_arguments)
        files = BootFilesOf(self.ledger, environment, clock)
        self.timeline = Timeline(clock)
        self.watching = Watching(self.ledger, self.timeline, writer, clock)
        scripts = Scripts(self.ledger, self.doorway, self.device, environment, clock)
        self.boot_files = MachineFiles(scripts, files, self.timeline, self.watching, static_root, self._content)
        self._boot_routes = BootRoutes(
            scripts, files, self.device, self.timeline, self.watching, static_root / "static", clock,
            settings.settle_seconds,
        )  # fmt: skip
        self._timeline_routes = TimelineRoutes(self.timeline, self.ledger, settings.server_ip)
        self._delivery = Delivery(self.store, clock)
        self.ledger.tell = self.timeline.told
        self.ledger.reported = self._delivery.wake
        self.power = PowerDesk(
            settings.data / "machines" / "power.json", networks_of(settings.bmc_network), bmcs, Deeds(clock), writer,
            clock, self.store.write, self._delivery.wake,
        )  # fmt: skip

    async def start(self, lifecycle: Lifecycle, metrics: Metrics) -> None:
        """Raises `MachinesNotStored`."""
        await asyncio.to_thread(self.ledger.open, self._clock.now().timestamp())
        await asyncio.to_thread(self.power.open, lifecycle.spawn)
        lifecycle.spawn("machines seen", self.watching.run())
        lifecycle.spawn("machine reports", self._delivery.run())
        lifecycle.spawn("alarms", self.alarms.run(self._clock))
        metrics.gauge("machines", "Boot targets", lambda: float(len(self.ledger.targets())))
        metrics.gauge(
            "machines_installing",
            "Installations that go on",
            lambda: float(len(self.ledger.running(self._clock.now().timestamp()))),
        )
        metrics.gauge(
            "machines_waiting", "Machines that wait for their turn", lambda: float(self.doorway.queue.waiting)
        )
        metrics.gauge("machine_reports", "Reports that the centre has yet to take", self._unsent)

        metrics.gauge("power_orders", "Orders of power that are not done", lambda: float(self.power.open_orders))

    def _unsent(self) -> float:
        return float(self.store.count_reports())

    def routes(self) -> list[web.RouteDef]:
        return [*self._boot_routes.routes(), *DeviceRoutes(self.device).routes(), *self._timeline_routes.routes()]

    def serve_at(self, base_url: str) -> None:
        """Machines find this regional's HTTP there."""
        self.device.links = Links(base_url)

    def join(self, cache: Cache, book: OrderBook, session: Session) -> None:
        """Targets come with the orders, reports go with the session."""
        self.use(cache)
        book.machines = session.machines = self
        session.alarms, self.alarms.changed = self.alarms.present, session.alarmed

    def use(self, cache: Cache) -> None:
        """Kernels, initrds and images come from there."""
        self._cache, self._boot_routes.edge = cache, cache.edge

    def choose(self, said: BootMap) -> MachineBoots:
        """What DHCP says instead of what its file says."""
        return MachineBoots(said, self.ledger.target)

    # ---- the attachment ----

    @property
    def fresh(self) -> bool:
        """Nothing is known here, so the centre must say everything again."""
        return self.ledger.fresh or self.power.fresh

    async def replace(self, targets: Sequence[pb.BootTarget]) -> None:
        await self.power.take(targets, whole=True)
        await asyncio.to_thread(self._change, list(targets), (), whole=True)

    async def change(self, targets: Sequence[pb.BootTarget], removed: Sequence[str]) -> None:
        if targets or removed:
            await self.power.take(targets, removed, whole=False)
            await asyncio.to_thread(self._change, list(targets), tuple(removed), whole=False)

    def _change(self, targets: list[pb.BootTarget], removed: tuple[str, ...], *, whole: bool) -> None:
        self.ledger.change(targets, removed, self._clock.now().timestamp(), whole=whole)

    def begin_round(self, sender: Sender[regional_pb2.RegionalMessage]) -> None:
        self._delivery.begin_round(sender)

    def end_round(self) -> None:
        self._delivery.end_round()

    async def acknowledged(self, ack: pb.MachineReportsAck) -> None:
        await self._delivery.acknowledged(ack)

    # ---- contents ----

    def _held(self, digest: Digest) -> bool:
        return self._cache is not None and self._cache.edge.holds(digest)

    def _content(self, digest: Digest) -> Path | None:
        return self._cache.directory.content_path(digest) if self._cache is not None and self._held(digest) else None
