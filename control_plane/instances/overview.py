"""The whole fleet in one picture, for `longshore status`, the console's first page and the demo.

Hosts and regionals are everybody's to see (`PLATFORM_READ`); instances and bytes are counted for the asker's tenants
only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from common.tls import IdentityKind
from control_plane.database import Database
from control_plane.fleet.hosts import Seen
from control_plane.fleet.model import State
from control_plane.instances import places, views
from control_plane.instances.model import Phase
from control_plane.instances.reading import readable_tenants
from control_plane.swarm.overview import SwarmOverview
from control_plane.tenants.access import Permission, Principal
from control_plane.web.paging import MAX_PAGE_SIZE, Page, PageRequest


class Roster(Protocol):
    """`fleet.hosts.Members`. Revoked ones only if they are asked for."""

    async def list(
        self, kind: IdentityKind, page: PageRequest, *, idc: str | None = None, state: State | None = None
    ) -> Page[Seen]: ...


@dataclass(frozen=True, slots=True)
class IdcPicture:
    """`hosts` and `regionals` do not count revoked ones."""

    name: str
    hosts: int
    hosts_online: int
    regionals: int
    regionals_online: int
    instances: int
    instances_running: int
    egress_bytes: int


@dataclass(frozen=True, slots=True)
class Picture:
    """`hosts` and `regionals` by state, `instances` by phase."""

    idcs: list[IdcPicture]
    hosts: dict[State, int]
    regionals: dict[State, int]
    instances: dict[Phase, int]
    egress_bytes: int


class FleetOverview:
    def __init__(self, database: Database, fleet: Roster, swarm: SwarmOverview) -> None:
        self._database = database
        self._fleet = fleet
        self._swarm = swarm

    async def picture(self, principal: Principal) -> Picture:
        principal.require(Permission.PLATFORM_READ)
        members = [*await self._everybody("host"), *await self._everybody("regional")]
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

    async def _everybody(self, kind: IdentityKind) -> Sequence[Seen]:
        found: list[Seen] = []
        for state in (None, State.REVOKED):
            page = await self._fleet.list(kind, PageRequest(1, MAX_PAGE_SIZE), state=state)
            found += page.items
            for number in range(2, page.total_pages + 1):
                found += (await self._fleet.list(kind, PageRequest(number, MAX_PAGE_SIZE), state=state)).items
        return found


def _idc(name: str, members: Sequence[Seen], counted: Sequence[tuple[str, str, int]], egress_bytes: int) -> IdcPicture:
    mine = Counter((seen.member.kind, seen.state) for seen in members if seen.member.idc == name)
    phases: Counter[str] = Counter()
    for idc, phase, count in counted:
        # Added up: no report yet and a report of "pending" are two rows of the same phase.
        phases[phase] += count if idc == name else 0
    return IdcPicture(
        name=name,
        hosts=_serving(mine, "host"),
        hosts_online=mine["host", State.ONLINE],
        regionals=_serving(mine, "regional"),
        regionals_online=mine["regional", State.ONLINE],
        instances=phases.total(),
        instances_running=phases[Phase.RUNNING.value],
        egress_bytes=egress_bytes,
    )


def _serving(counts: Counter[tuple[IdentityKind, State]], kind: IdentityKind) -> int:
    return sum(counts[kind, state] for state in State if state is not State.REVOKED)


def _by_state(members: Sequence[Seen], kind: IdentityKind) -> dict[State, int]:
    counts = Counter(seen.state for seen in members if seen.member.kind == kind)
    return {state: counts[state] for state in State}
