"""The fleet in one piece: its services built in order, and the two listeners it is reached by.

fleet = await open_fleet(database, bus, sealed_box, clock, random.random, FleetOptions(...))
places = Places("127.0.0.1:0", "127.0.0.1:0")
enrolment, attach = fleet.listeners(places, instances, swarm, tokens.verifying_keys, bad_peers.accept)
lifecycle.spawn("fleet", fleet.watch.run())
await lifecycle.enter(enrolment)     # their `.address` is what /.well-known/longshore advertises
await lifecycle.enter(attach)
await lifecycle.enter(fleet)         # last: its streams end first, while the listeners can still say why
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry

from common.bittorrent import SMALLEST_SWARM_BYTES
from common.clock import Clock
from common.identifiers import new_id
from control_plane.database import Database
from control_plane.events import EventBus
from control_plane.fleet.authority import Authority, Sealer, ServerCertificates, open_authority, server_names
from control_plane.fleet.conversation import Tempo
from control_plane.fleet.desired import (
    AssignmentSource,
    CommandSink,
    HostTelling,
    MachineSource,
    MoveSink,
    OffenceSink,
    OrderSource,
)
from control_plane.fleet.dialects import AgentDialect, RegionalDialect
from control_plane.fleet.enrolment import Enrolment
from control_plane.fleet.hosts import Members
from control_plane.fleet.idcs import Idcs
from control_plane.fleet.join_tokens import JoinTokens
from control_plane.fleet.liveness import Horizon, horizons
from control_plane.fleet.presence import FLUSH_SECONDS, Presence
from control_plane.fleet.rpc import attach_services, enrolment_services
from control_plane.fleet.sessions import Sessions
from control_plane.fleet.watch import FleetWatch
from control_plane.rpc.metrics import RpcMetrics
from control_plane.rpc.server import Register, RpcListener


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """`certificate_life`: of hosts and regionals, renewed in 50-80 % of it. It is also how long a member may be cut off
    and still find its way back by itself.
    """

    tempo: Tempo = field(default_factory=Tempo)
    certificate_life: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Places:
    """Where to listen (host:port, port 0 picks one), and by which further names clients may reach us. `content_url`:
    base URL of the content routes; empty: where the client enrolled. `smallest_swarm_bytes`: what members are told.
    """

    enrolment: str
    attach: str
    public_names: tuple[str, ...] = ()
    content_url: str = ""
    smallest_swarm_bytes: int = SMALLEST_SWARM_BYTES


@dataclass(frozen=True)
class Fleet:
    database: Database
    authority: Authority
    idcs: Idcs
    members: Members
    join_tokens: JoinTokens
    enrolment: Enrolment
    presence: Presence
    sessions: Sessions
    watch: FleetWatch
    look: Callable[[], Horizon]
    """The present horizon: who counts as being there."""
    metrics: RpcMetrics

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End every stream in good order."""
        await self.sessions.close()

    def listeners(
        self,
        places: Places,
        assignments: AssignmentSource,
        orders: OrderSource,
        verifying_keys: Callable[[], Mapping[str, bytes]],
        offences: OffenceSink,
        further: Sequence[Register] = (),
        telling: HostTelling | None = None,
        commands: CommandSink | None = None,
        moves: MoveSink | None = None,
        machines: MachineSource | None = None,
    ) -> tuple[RpcListener, RpcListener]:
        """The listener for strangers and the one for members, not yet started. `further`: services for members that
        domains above have.
        """
        hosts = [address.rpartition(":")[0] for address in (places.enrolment, places.attach)]
        identity = ServerCertificates(self.authority, server_names(hosts, places.public_names))
        attach = attach_services(
            self.enrolment,
            self.sessions,
            AgentDialect(
                assignments,
                offences,
                verifying_keys,
                places.content_url,
                places.smallest_swarm_bytes,
                telling,
                commands,
                moves,
            ),
            RegionalDialect(
                orders,
                verifying_keys,
                places.content_url,
                places.smallest_swarm_bytes,
                machines,
                self.members.warned,
            ),
        )
        strangers = enrolment_services(self.enrolment)
        return (
            RpcListener("enrolment", places.enrolment, identity, strangers, mutual=False, metrics=self.metrics),
            RpcListener("attach", places.attach, identity, (*attach, *further), mutual=True, metrics=self.metrics),
        )


async def open_fleet(
    database: Database,
    bus: EventBus,
    sealer: Sealer,
    clock: Clock,
    random: Callable[[], float],
    options: FleetOptions,
    registry: CollectorRegistry | None = None,
) -> Fleet:
    """Opens (at first start: makes) the certificate authority; nothing runs yet."""
    metrics = RpcMetrics(registry or CollectorRegistry())
    authority = await open_authority(database, sealer, clock, options.certificate_life)
    look = horizons(clock, options.tempo.heartbeat_seconds, FLUSH_SECONDS)
    presence = Presence(database, new_id(clock), clock, options.tempo.heartbeat_seconds)
    sessions = Sessions(presence, options.tempo, clock, random)
    sessions.not_understood = metrics.not_understood
    return Fleet(
        database=database,
        authority=authority,
        idcs=Idcs(database, clock),
        members=Members(database, clock, look),
        join_tokens=JoinTokens(database, clock, authority.ca_hash),
        enrolment=Enrolment(database, authority, clock),
        presence=presence,
        sessions=sessions,
        look=look,
        metrics=metrics,
        watch=FleetWatch(database, bus, sessions, presence, look, options.tempo, clock, random),
    )
