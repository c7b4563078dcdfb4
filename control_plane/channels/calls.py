"""Asking a host for a channel: down its stream if this replica has it, else through the replica that does.

Invariant: what a host is asked reaches it at most once, over its own attachment. Nothing is kept: a request that finds
nobody is lost, and the client that waits for it is told so when its time is up.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from google.protobuf.message import DecodeError

from common.backoff import jittered
from common.clock import Clock
from common.errors import Failure
from control_plane.channels.messages import ChannelWanted
from control_plane.channels.model import HostAway
from control_plane.events import Event, EventBus
from control_plane.fleet.sessions import Sessions
from proto.agent.v1 import agent_pb2, channels_pb2

log = structlog.get_logger()


class Calls:
    """`alone`: there are no other replicas."""

    def __init__(
        self, bus: EventBus, sessions: Sessions, clock: Clock, random: Callable[[], float], *, alone: bool = False
    ) -> None:
        self._bus = bus
        self._sessions = sessions
        self._clock = clock
        self._random = random
        self._alone = alone

    async def call(self, host_id: str, order: channels_pb2.OpenChannel) -> None:
        """Raises `HostAway` if nobody can have it, `Unavailable` if the bus cannot pass it on."""
        if self._tell(host_id, order):
            return
        if self._alone:
            raise HostAway(
                "the host is not attached", action="try again; see `longshore host list`", retry_after_seconds=5
            )
        wanted = ChannelWanted(host_id, base64.b64encode(order.SerializeToString()).decode())
        await self._bus.publish(Event(ChannelWanted.topic, wanted.payload()))

    async def run(self) -> None:
        """For the whole life of the process: pass on what other replicas ask of hosts that are attached here."""
        while True:
            try:
                async with self._bus.subscribe(ChannelWanted.topic) as events:
                    async for event in events:
                        self._pass_on(event.payload)
            except Failure as failure:
                log.warning("channels that other replicas want are not heard of", error=str(failure))
            await self._clock.sleep(jittered(1.0, 0.5, self._random))

    def _pass_on(self, payload: Mapping[str, Any]) -> None:
        try:
            order = channels_pb2.OpenChannel.FromString(base64.b64decode(str(payload["order"]), validate=True))
        except (KeyError, binascii.Error, DecodeError):
            log.warning("a request for a channel was not understood")
            return
        self._tell(str(payload.get("host_id", "")), order)

    def _tell(self, host_id: str, order: channels_pb2.OpenChannel) -> bool:
        session = self._sessions.find("host", host_id)
        if session is None or session.over:
            return False
        session.send(agent_pb2.PlaneMessage(open_channel=order))
        return True
