"""The channels in one piece.

channels = build_channels(database, bus, fleet, reading, trail, clock, random.random, ChannelLimits())
fleet.listeners(..., further=[channels.register])
lifecycle.spawn("channels", channels.run())
await lifecycle.enter(channels)      # after the listeners: open channels end first, while they can still say why
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc.aio
from prometheus_client import CollectorRegistry, Gauge

from common.clock import Clock
from common.identifiers import new_id
from control_plane.audit.service import AuditTrail
from control_plane.channels.calls import Calls
from control_plane.channels.exchange import Exchange
from control_plane.channels.model import ChannelLimits
from control_plane.channels.rpc import ChannelsService
from control_plane.channels.service import ChannelService
from control_plane.channels.shares import Shares
from control_plane.database import Database
from control_plane.events import EventBus
from control_plane.fleet.service import Fleet
from control_plane.instances.reading import InstanceReading
from proto.agent.v1 import channels_pb2_grpc


@dataclass(frozen=True)
class Channels:
    service: ChannelService
    exchange: Exchange
    calls: Calls
    rpc: ChannelsService
    shares: Shares

    async def run(self) -> None:
        """For the whole life of the process."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.calls.run())
            group.create_task(self.shares.run())

    def register(self, server: grpc.aio.Server) -> None:
        channels_pb2_grpc.add_ChannelsServicer_to_server(self.rpc, server)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.exchange.close()
        await self.shares.close()


def build_channels(
    database: Database,
    bus: EventBus,
    fleet: Fleet,
    reading: InstanceReading,
    trail: AuditTrail,
    clock: Clock,
    random: Callable[[], float],
    limits: ChannelLimits,
    metrics: CollectorRegistry,
    *,
    alone: bool = False,
) -> Channels:
    """`alone`: there are no other replicas."""
    exchange, calls = Exchange(limits, clock), Calls(bus, fleet.sessions, clock, random, alone=alone)
    shares = Shares(database, clock, new_id(clock), alone=alone)
    service = ChannelService(database, reading, fleet.members, exchange, shares, calls, trail)
    gauge = Gauge("control_plane_channels", "Channels to instances that are open here.", registry=metrics)
    gauge.set_function(lambda: exchange.open_count)
    return Channels(service, exchange, calls, ChannelsService(exchange, fleet.members), shares)
