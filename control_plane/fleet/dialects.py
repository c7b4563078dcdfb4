"""What differs between an agent's stream and a regional's: the words of the messages, and who is asked for the desired
state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from common.bittorrent import SMALLEST_SWARM_BYTES
from common.errors import Invalid
from common.generations import Changes
from common.protocol_version import VERSION
from common.tls import IdentityKind
from control_plane.fleet.desired import (
    AssignmentSource,
    CommandSink,
    HostTelling,
    MachineSource,
    MoveSink,
    OffenceSink,
    OrderSource,
)
from control_plane.fleet.host_facts import recorded_facts
from control_plane.fleet.model import Member, Regional
from control_plane.fleet.session import Down, Session, Up
from proto.agent.v1 import agent_pb2
from proto.content.v1 import content_pb2
from proto.regional.v1 import machines_pb2, regional_pb2

_TEXT = 255


class HelloInvalid(Invalid):
    code = "hello_invalid"


@dataclass(frozen=True, slots=True)
class Picture:
    """Desired state at one generation; `items` by their keys in the protocol."""

    generation: int
    items: Mapping[Any, Any]


class Dialect(Protocol):
    kind: IdentityKind

    def reported(self, hello: Any) -> dict[str, Any]:
        """What Hello says of the member, as columns of its row. Raises `HelloInvalid`."""
        ...

    def welcome(self, session: Session, heartbeat_seconds: float) -> Down: ...

    def probe(self, nonce: str) -> Down: ...

    def acknowledgement(self, sequence: int) -> Down: ...

    def full(self, picture: Picture) -> Down: ...

    def changes(self, changes: Changes[Any, Any]) -> Down: ...

    async def picture(self, member: Member, held: Picture | None = None) -> Picture:
        """What `member` shall have. What of `held` is still true may come back as it is; None: all is made anew."""
        ...

    async def accept(self, member: Member, message: Up) -> Down | None:
        """Make the reports durable, and take whatever else is neither heartbeat nor reply. An answer is sent in place
        of the plain acknowledgement.
        """
        ...


class AgentDialect:
    kind: IdentityKind = "host"

    def __init__(
        self,
        source: AssignmentSource,
        offences: OffenceSink,
        verifying_keys: Callable[[], Mapping[str, bytes]],
        content_url: str = "",
        smallest_swarm_bytes: int = SMALLEST_SWARM_BYTES,
        telling: HostTelling | None = None,
        commands: CommandSink | None = None,
        moves: MoveSink | None = None,
    ) -> None:
        self._source = source
        self._smallest_swarm_bytes = smallest_swarm_bytes
        self._offences = offences
        self._telling = telling
        self._commands = commands
        self._moves = moves
        self._verifying_keys = verifying_keys
        self._content_url = content_url

    def reported(self, hello: agent_pb2.Hello) -> dict[str, Any]:
        return {
            "version": hello.version[:64],
            "image_tokens": hello.image_tokens,
            "facts": recorded_facts(hello.facts),
        }

    def welcome(self, session: Session, heartbeat_seconds: float) -> Down:
        return agent_pb2.PlaneMessage(
            welcome=agent_pb2.Welcome(
                session_id=session.id,
                heartbeat_seconds=heartbeat_seconds,
                host_id=session.member.id,
                idc=session.member.idc,
                content_url=self._content_url,
                verifying_keys=_keys_message(self._verifying_keys()),
                smallest_swarm_bytes=self._smallest_swarm_bytes,
                protocol_version=VERSION,
            )
        )

    def probe(self, nonce: str) -> Down:
        return agent_pb2.PlaneMessage(probe=agent_pb2.Probe(nonce=nonce))

    def acknowledgement(self, sequence: int) -> Down:
        return agent_pb2.PlaneMessage(reports_ack=agent_pb2.ReportsAck(sequence=sequence))

    def full(self, picture: Picture) -> Down:
        return agent_pb2.PlaneMessage(
            set=agent_pb2.AssignmentSet(results_in=picture.generation, assignments=picture.items.values())
        )

    def changes(self, changes: Changes[Any, Any]) -> Down:
        return agent_pb2.PlaneMessage(
            changes=agent_pb2.AssignmentChanges(
                applies_to=changes.applies_to,
                results_in=changes.results_in,
                changed=changes.changed.values(),
                removed=sorted(changes.removed),
            )
        )

    async def picture(self, member: Member, held: Picture | None = None) -> Picture:
        snapshot = await self._source.assignments(member.id, None if held is None else held.items)
        return Picture(snapshot.generation, snapshot.assignments)

    async def accept(self, member: Member, message: Up) -> Down | None:
        assert isinstance(message, agent_pb2.AgentMessage)  # noqa: S101  the servicer's stream carries no other
        if self._telling is not None and message.HasField("facts"):
            await self._telling.facts(member.id, message.facts)
        elif self._telling is not None and message.HasField("sample"):
            await self._telling.sample(member.id, message.sample)
        if not message.HasField("reports"):
            return None
        reports = message.reports
        if reports.commands and self._commands is not None:
            await self._commands(member.id, reports.commands)
        if reports.moves and self._moves is not None:
            await self._moves(member.id, reports.moves)
        if reports.offences:
            await self._offences(member.id, reports.offences)
        await self._source.accept_reports(member.id, reports.instances, reports.contents)
        return None


def _keys_message(keys: Mapping[str, bytes]) -> list[content_pb2.VerifyingKey]:
    return [content_pb2.VerifyingKey(key_id=key_id, public_key_pem=pem) for key_id, pem in keys.items()]


def regionals_message(regionals: Sequence[Regional]) -> Down:
    return agent_pb2.PlaneMessage(
        regionals=agent_pb2.Regionals(
            endpoints=[
                agent_pb2.RegionalEndpoint(
                    regional_id=regional.id,
                    content_url=regional.content_url,
                    swarm_url=regional.swarm_url,
                    peer_address=regional.peer_address,
                )
                for regional in regionals
            ]
        )
    )


class RegionalDialect:
    kind: IdentityKind = "regional"

    def __init__(
        self,
        source: OrderSource,
        verifying_keys: Callable[[], Mapping[str, bytes]],
        content_url: str = "",
        smallest_swarm_bytes: int = SMALLEST_SWARM_BYTES,
        machines: MachineSource | None = None,
        warned: Callable[[str, Sequence[str]], Awaitable[None]] | None = None,
    ) -> None:
        self._source = source
        self._machines = machines
        self._warned = warned
        self._smallest_swarm_bytes = smallest_swarm_bytes
        self._content_url = content_url
        self.verifying_keys = verifying_keys

    def reported(self, hello: regional_pb2.Hello) -> dict[str, Any]:
        reported = {
            "content_url": hello.content_url,
            "swarm_url": hello.swarm_url,
            "peer_address": hello.peer_address,
        }
        for name, value in reported.items():
            if len(value) > _TEXT:
                raise HelloInvalid(f"{name} has {len(value)} characters", action=f"use at most {_TEXT}")
        if reported["content_url"] and not reported["content_url"].startswith("https://"):
            raise HelloInvalid("content_url is no https URL", action="contents are served over mutual TLS")
        return {"version": hello.version[:64], "image_tokens": hello.image_tokens, **reported}

    def welcome(self, session: Session, heartbeat_seconds: float) -> Down:
        return regional_pb2.PlaneMessage(
            welcome=regional_pb2.Welcome(
                session_id=session.id,
                heartbeat_seconds=heartbeat_seconds,
                regional_id=session.member.id,
                idc=session.member.idc,
                content_url=self._content_url,
                verifying_keys=_keys_message(self.verifying_keys()),
                smallest_swarm_bytes=self._smallest_swarm_bytes,
                protocol_version=VERSION,
            )
        )

    def probe(self, nonce: str) -> Down:
        return regional_pb2.PlaneMessage(probe=regional_pb2.Probe(nonce=nonce))

    def acknowledgement(self, sequence: int) -> Down:
        return regional_pb2.PlaneMessage(reports_ack=regional_pb2.ReportsAck(sequence=sequence))

    def full(self, picture: Picture) -> Down:
        # A tuple is the key of an order, a text that of a machine.
        return regional_pb2.PlaneMessage(
            set=regional_pb2.OrderSet(
                results_in=picture.generation,
                orders=[item for key, item in picture.items.items() if isinstance(key, tuple)],
                boot_targets=[item for key, item in picture.items.items() if isinstance(key, str)],
            )
        )

    def changes(self, changes: Changes[Any, Any]) -> Down:
        return regional_pb2.PlaneMessage(
            changes=regional_pb2.OrderChanges(
                applies_to=changes.applies_to,
                results_in=changes.results_in,
                changed=[item for key, item in changes.changed.items() if isinstance(key, tuple)],
                removed=[
                    regional_pb2.OrderKey(tenant_id=tenant_id, digest=digest)
                    for tenant_id, digest in sorted(key for key in changes.removed if isinstance(key, tuple))
                ],
                changed_targets=[item for key, item in changes.changed.items() if isinstance(key, str)],
                removed_machines=sorted(key for key in changes.removed if isinstance(key, str)),
            )
        )

    async def picture(self, member: Member, held: Picture | None = None) -> Picture:
        snapshot = await self._source.orders(member.idc_id, member.id)
        # Read later, so never older than the generation; what is newer comes with the next one as well.
        targets = {} if self._machines is None else await self._machines.targets(member)
        return Picture(snapshot.generation, {**snapshot.orders, **targets})

    async def accept(self, member: Member, message: Up) -> Down | None:
        assert isinstance(message, regional_pb2.RegionalMessage)  # noqa: S101  the servicer's stream carries no other
        if message.HasField("machines"):
            return await self._accept_machines(member, message.machines)
        if message.HasField("condition"):
            if self._warned is not None:
                await self._warned(member.id, message.condition.warnings)
            return None
        await self._source.accept_order_reports(member.id, message.reports.orders)
        return None

    async def _accept_machines(self, member: Member, said: machines_pb2.MachineReports) -> Down:
        refused = [] if self._machines is None else await self._machines.accept_machine_reports(member, said.reports)
        return regional_pb2.PlaneMessage(
            machines_ack=machines_pb2.MachineReportsAck(sequence=said.sequence, refused=refused)
        )
