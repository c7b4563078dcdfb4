"""Where the edge is asked and answers, beside its attachment: wired here, started by the process.

Invariant: a request to give a content back reaches its holder from the replica that has the holder's stream, or nobody;
then it lapses, and the next pass of the scrub asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio
import structlog

from common.backoff import jittered
from common.clock import Clock
from common.errors import Failure
from common.tls import IdentityKind
from control_plane.blobs.store_set.members import Members
from control_plane.database import Database
from control_plane.events import EventBus
from control_plane.fleet.service import Fleet
from control_plane.fleet.sessions import Sessions
from control_plane.registry.service import RegistryService
from control_plane.swarm.edge_rights import PullRights, RegistryTokenVerifier
from control_plane.swarm.edge_rpc import PullRightsService, ReturnsService
from control_plane.swarm.healing import EdgeHealer, Returns
from control_plane.swarm.messages import ReturnWanted
from control_plane.swarm.tokens import ContentTokens
from proto.agent.v1 import agent_pb2
from proto.edge.v1 import edge_pb2, edge_pb2_grpc
from proto.regional.v1 import regional_pb2

log = structlog.get_logger()

Register = Callable[[grpc.aio.Server], None]


@dataclass(frozen=True)
class EdgeDesk:
    """`services`: for the listener of members. `messenger` runs as long as the process has streams."""

    healer: EdgeHealer
    messenger: ReturnMessenger
    services: Sequence[Register]


class ReturnMessenger:
    """Sends requests down the streams of this replica."""

    def __init__(self, bus: EventBus, sessions: Sessions, clock: Clock, random: Callable[[], float]) -> None:
        self._bus = bus
        self._sessions = sessions
        self._clock = clock
        self._random = random

    async def run(self) -> None:
        """For the whole life of the process. What was announced while the bus was away lapses."""
        while True:
            try:
                async with self._bus.subscribe(ReturnWanted.topic) as events:
                    async for event in events:
                        self._send(event.payload)
            except Failure as failure:
                log.warning("requests to give contents back are not heard", error=str(failure))
            await self._clock.sleep(jittered(1.0, 0.5, self._random))

    def _send(self, payload: Mapping[str, Any]) -> None:
        kind: IdentityKind = "regional" if payload["holder_kind"] == "regional" else "host"
        session = self._sessions.find(kind, str(payload["holder_id"]))
        if session is None:
            return
        wanted = edge_pb2.ReturnContent(
            request_id=str(payload["request_id"]),
            digest=str(payload["digest"]),
            size_bytes=int(payload["size_bytes"]),
        )
        if kind == "regional":
            session.send(regional_pb2.PlaneMessage(return_content=wanted))
        else:
            session.send(agent_pb2.PlaneMessage(return_content=wanted))


def build_edge_desk(
    database: Database,
    bus: EventBus,
    members: Members,
    registry: RegistryService,
    registry_tokens: RegistryTokenVerifier,
    content_tokens: ContentTokens,
    fleet: Fleet,
    clock: Clock,
    random: Callable[[], float],
) -> EdgeDesk:
    rights = PullRights(registry, registry_tokens, content_tokens, fleet.members)
    returns = Returns(database, members)
    return EdgeDesk(
        EdgeHealer(returns, members, clock),
        ReturnMessenger(bus, fleet.sessions, clock, random),
        (
            lambda server: edge_pb2_grpc.add_PullRightsServicer_to_server(PullRightsService(rights), server),
            lambda server: edge_pb2_grpc.add_ReturnsServicer_to_server(ReturnsService(returns, fleet.members), server),
        ),
    )
