"""The questions that the fleet asks of the domains above it; `app` fills them in.

Invariant: a snapshot holds nothing that is older than its generation. It may hold something newer; that has counted a
generation of its own, which says it again. Tokens apart, a message of one instance and instance generation never
changes. Reports are durable when `accept_*` returns; only then does the stream acknowledge them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from common.errors import Failure
from control_plane.database import Connection
from control_plane.fleet.model import Member
from proto.agent.v1 import agent_pb2, commands_pb2, moves_pb2
from proto.regional.v1 import machines_pb2, regional_pb2


@dataclass(frozen=True, slots=True)
class AssignmentSnapshot:
    generation: int
    assignments: Mapping[str, agent_pb2.Assignment]  # by instance id


@dataclass(frozen=True, slots=True)
class OrderSnapshot:
    generation: int
    orders: Mapping[tuple[str, str], regional_pb2.Order]  # by (tenant id, digest)


class AssignmentSource(Protocol):
    """What one host should run, and what it says of it."""

    async def assignments(
        self, host_id: str, held: Mapping[str, agent_pb2.Assignment] | None = None
    ) -> AssignmentSnapshot:
        """`held`: what the host was told last. What of it is still true may be returned as it is, with its tokens; a
        change then costs what changed, not what there is. None: everything is made anew.
        """
        ...

    async def accept_reports(
        self,
        host_id: str,
        instances: Sequence[agent_pb2.InstanceReport],
        contents: Sequence[agent_pb2.ContentReport],
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """One host, and what it was told last; see `AssignmentSource.assignments`. `together`: it takes one token for all
    contents of an image, and so does whoever checks it.
    """

    host_id: str
    held: Mapping[str, agent_pb2.Assignment] | None = None
    together: bool = False


class AssignmentLayer(Protocol):
    """What one domain has hosts run or hold, over what the layer beneath it has. `assigning` makes a source of them."""

    async def assigned(self, connection: Connection, asked: Sequence[Asked]) -> Sequence[AssignmentSnapshot | Failure]:
        """Each host's, in the order asked. `connection` reads one moment, for all layers the same; it is a
        `HostUnknown` that stands for a host that there is not.
        """
        ...

    async def accept_reports(
        self,
        host_id: str,
        instances: Sequence[agent_pb2.InstanceReport],
        contents: Sequence[agent_pb2.ContentReport],
    ) -> None: ...


class OffenceSink(Protocol):
    """Takes what one host says of others that sent false bytes; durable when it returns."""

    async def __call__(self, host_id: str, said: Sequence[agent_pb2.Offence], /) -> None: ...


class CommandSink(Protocol):
    """Takes what one host says of its commands; durable when it returns."""

    async def __call__(self, host_id: str, said: Sequence[commands_pb2.CommandReport], /) -> None: ...


class MoveSink(Protocol):
    """Takes what one host says of instances that come to it or leave it; durable when it returns."""

    async def __call__(self, host_id: str, said: Sequence[moves_pb2.MoveReport], /) -> None: ...


class HostTelling(Protocol):
    """Takes what one host says of itself while it is attached."""

    async def facts(self, host_id: str, facts: agent_pb2.HostFacts, /) -> None:
        """Durable when it returns."""
        ...

    async def sample(self, host_id: str, sample: agent_pb2.Sample, /) -> None:
        """Written nowhere."""
        ...


class OrderSource(Protocol):
    """What one IDC should hold, and what its regionals say of it."""

    async def orders(self, idc_id: str, regional_id: str) -> OrderSnapshot: ...

    async def accept_order_reports(self, regional_id: str, reports: Sequence[regional_pb2.OrderReport]) -> None: ...


class MachineSource(Protocol):
    """The bare machines of one IDC, and what its regionals say of them."""

    async def targets(self, member: Member) -> Mapping[str, machines_pb2.BootTarget]:
        """By machine id. Asked after the orders, so that it is never older than their generation."""
        ...

    async def accept_machine_reports(
        self, member: Member, reports: Sequence[machines_pb2.MachineReport]
    ) -> Sequence[machines_pb2.RefusedReport]: ...
