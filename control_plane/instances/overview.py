"""The whole fleet in one picture, for `longshore status`, the console's first page and the demo.

Hosts and regionals are everybody's to see (`PLATFORM_READ`); instances and bytes are counted for the asker's tenants
only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import BaseModel

from common.tls import IdentityKind
from control_plane.database import Database
from control_plane.fleet.model import State
from control_plane.instances import places, views
from control_plane.instances.model import Phase
from control_plane.instances.reading import readable_tenants
from control_plane.swarm.overview import SwarmOverview
from control_plane.tenants.access import Permission, Principal


@dataclass(frozen=True, slots=True)
class MemberState:
    """How one host or regional is; `idc` by name."""

    kind: IdentityKind
    idc: str
    state: State


class FleetStates(Protocol):
    """The fleet's answer: every host and regional, revoked ones too."""

    async def member_states(self) -> Sequence[MemberState]: ...


class IdcPicture(BaseModel):
    """`hosts` and `regionals` do not count revoked ones."""

    name: str
    hosts: int
    hosts_online: int
    regionals: int
    regionals_online: int
    instances: int
    instances_running: int
    egress_bytes: int


class Picture(BaseModel):
    """`hosts` and `regionals` by state, `instances` by phase."""

    idcs: list[IdcPicture]
    hosts: dict[State, int]
    regionals: dict[State, int]
    instances: dict[Phase, int]
    egress_bytes: int


class FleetOverview:
    def __init__(self, database: Database, fleet: FleetStates, swarm: SwarmOverview) -> None:
        self._database = database
        self._fleet = fleet
        self._swarm = swarm

    async def picture(self, principal: Principal) -> Picture:
        principal.require(Permission.PLATFORM_READ)
        members = await self._fleet.member_states()
        sent = await self._swarm.egress_totals(principal)
        async with self._database.reading() as connection:
            names = await places.idc_names(connection)
            counted = await views.counts(connection, readable_tenants(principal))
        phases: Counter[str] = Counter()
        for _, phase, count in counted:
            phases[phase] += count
        return Picture(
            idcs=[_idc(name, members, counted, sent.get(name, 0)) for name in names],
            hosts=_by_state(members, "host"),
            regionals=_by_state(members, "regional"),
            instances={phase: phases[phase.value] for phase in Phase},
            egress_bytes=sum(sent.values()),
        )


def _idc(
    name: str, members: Sequence[MemberState], counted: Sequence[tuple[str, str, int]], egress_bytes: int
) -> IdcPicture:
    mine = Counter((member.kind, member.state) for member in members if member.idc == name)
    phases = {phase: count for idc, phase, count in counted if idc == name}
    return IdcPicture(
        name=name,
        hosts=sum(count for (kind, state), count in mine.items() if kind == "host" and state is not State.REVOKED),
        hosts_online=mine["host", State.ONLINE],
        regionals=sum(
            count for (kind, state), count in mine.items() if kind == "regional" and state is not State.REVOKED
        ),
        regionals_online=mine["regional", State.ONLINE],
        instances=sum(phases.values()),
        instances_running=phases.get(Phase.RUNNING, 0),
        egress_bytes=egress_bytes,
    )


def _by_state(members: Sequence[MemberState], kind: IdentityKind) -> dict[State, int]:
    counts = Counter(member.state for member in members if member.kind == kind)
    return {state: counts[state] for state in State}
