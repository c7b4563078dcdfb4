"""Who sent false bytes: what hosts say of it is kept, audited, counted and shown.

Invariant: a report is written down once, with its entry in the audit trail, or not at all; what one host can make us
write is bounded (`_MOST_A_DAY`), and so is how long it stays. A host's word is no proof, so nothing here takes any
right from whom it names: the host itself has banned the source, and the IDC's tracker acts when two hosts say the same
(regional/offenders.py). What to do with a machine that is named again and again is for people to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import structlog

from control_plane.audit.model import Act, Operator, OperatorKind, Outcome
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, UnitOfWork
from control_plane.swarm import bad_peers_store, reports
from control_plane.swarm.bad_peers_store import HostPlace, OffenceFilter, OffenceRow
from control_plane.swarm.model import Offence
from control_plane.swarm.provenance_metrics import SwarmMetrics
from control_plane.swarm.visibility import TenantDirectory, visible_tenants
from control_plane.tenants.access import Permission, Principal
from control_plane.web.paging import Page, PageRequest
from proto.agent.v1 import agent_pb2

log = structlog.get_logger()

# A banned address stays banned for ten minutes (common/bittorrent/libtorrent_bans.py): 144 a day from one liar.
_MOST_A_DAY = 500
_DAY = timedelta(days=1)
KEPT = timedelta(days=30)


class BadPeers:
    def __init__(self, database: Database, trail: AuditTrail, tenants: TenantDirectory, metrics: SwarmMetrics) -> None:
        self._database = database
        self._trail = trail
        self._tenants = tenants
        self._metrics = metrics

    async def accept(self, host_id: str, said: Sequence[agent_pb2.Offence]) -> None:
        """Durable when it returns. Passed over: what is not well formed, is known already, is of a content that this
        host has nothing to do with, or is too much.
        """
        now = self._database.clock.now()
        offences = [one for report in said if (one := reports.offence(host_id, report, now)) is not None]
        if not offences:
            return
        async with self._database.reading() as connection:
            place = await bad_peers_store.place_of(connection, host_id)
        if place is None:
            return
        names = await self._tenants.names_of({offence.tenant_id for offence in offences})
        async with self._database.transaction() as unit:
            written = await self._write(unit, place, offences)
            for offence in written:
                accused = await bad_peers_store.name_of(unit.connection, offence.accused)
                self._trail.record(unit, _act(offence, place, names.get(offence.tenant_id, ""), accused))
        for offence in written:
            self._metrics.offended(place.idc, offence.kind)
            log.warning(
                "false bytes reported",
                kind=offence.kind.value,
                idc=place.idc,
                accuser=place.host,
                source=offence.source,
                accused=offence.accused,
                digest=str(offence.digest),
            )

    async def _write(self, unit: UnitOfWork, place: HostPlace, offences: Sequence[Offence]) -> list[Offence]:
        now = unit.clock.now()
        accuser = offences[0].accuser_id
        keys = {(offence.tenant_id, str(offence.digest)) for offence in offences}
        concerned = await bad_peers_store.concerned(unit.connection, accuser, place.idc_id, sorted(keys))
        known = [offence for offence in offences if (offence.tenant_id, str(offence.digest)) in concerned]
        room = _MOST_A_DAY - await bad_peers_store.said_since(unit.connection, accuser, now - _DAY)
        taken = known[: max(room, 0)]
        if len(known) > len(taken):
            log.warning("a host reports too much", idc=place.idc, host=place.host, passed_over=len(known) - len(taken))
            self._metrics.passed_over(place.idc, len(known) - len(taken))
        return [one for one in taken if await bad_peers_store.add(unit.connection, one, now)]

    async def page(
        self, principal: Principal, wanted: OffenceFilter, request: PageRequest
    ) -> tuple[Page[OffenceRow], dict[str, str]]:
        """The page, newest first, and the names of its tenants by id."""
        principal.require(Permission.PLATFORM_READ)
        visible = await visible_tenants(principal, Permission.TENANT_READ, self._tenants)
        async with self._database.reading() as connection:
            found, total = await bad_peers_store.rows(connection, visible, wanted, request.limit, request.offset)
        names = await self._tenants.names_of({row.tenant_id for row in found})
        return Page(found, total, request), dict(names)

    async def forget_old(self) -> int:
        """Those that are older than `KEPT`; how many. The audit trail keeps what it has."""
        async with self._database.transaction() as unit:
            return await bad_peers_store.forget(unit.connection, unit.clock.now() - KEPT)


def _act(offence: Offence, place: HostPlace, tenant: str, accused: str) -> Act:
    """The host is the operator: its word is what is recorded."""
    return Act(
        f"swarm.{offence.kind.value}",
        Operator(OperatorKind.SYSTEM, offence.accuser_id, f"host {place.idc}/{place.host}"),
        tenant=tenant,
        digest=str(offence.digest),
        subject=accused or offence.source,
        outcome=Outcome.FAILURE,
        details={
            "source": offence.source,
            "accused": offence.accused,
            "offence_id": offence.id,
            "occurred_at": offence.occurred_at.isoformat(),
        },
    )
