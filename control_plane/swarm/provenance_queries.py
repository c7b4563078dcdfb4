"""Where the bytes of contents came from, summed over the hosts of each data centre."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Integer, cast, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.fleet.tables import hosts, idcs, regionals
from control_plane.swarm.tables import host_contents, regional_contents
from control_plane.web.paging import Page, PageRequest


@dataclass(frozen=True, slots=True)
class ProvenanceRow:
    """One content in one IDC, in bytes of payload. Regional and peers are those of the IDC itself: a tracker names
    nobody else. `regional_from_centre_bytes`: what its regionals fetched over the WAN.
    """

    idc: str
    tenant_id: str
    digest: str
    size_bytes: int
    hosts: int
    hosts_verified: int
    held_bytes: int
    from_centre_bytes: int
    from_regional_bytes: int
    from_peers_bytes: int
    reused_bytes: int
    regional_from_centre_bytes: int

    @property
    def wasted_bytes(self) -> int:
        """Received beyond what is held: blocks that came twice, false ones, and what failed tries threw away."""
        sources = self.from_centre_bytes + self.from_regional_bytes + self.from_peers_bytes + self.reused_bytes
        return max(sources - self.held_bytes, 0)


_SUMMED = ("held_bytes", "from_centre_bytes", "from_regional_bytes", "from_peers_bytes", "reused_bytes")


async def provenance_rows(
    connection: AsyncConnection,
    tenant_ids: Collection[str] | None,
    idc: str | None,
    digest: str | None,
    request: PageRequest,
) -> Page[ProvenanceRow]:
    """By IDC, digest and tenant. `tenant_ids` None: of every tenant."""
    statement = (
        select(
            idcs.c.id.label("idc_id"),
            idcs.c.name.label("idc"),
            host_contents.c.tenant_id,
            host_contents.c.digest,
            func.max(host_contents.c.size_bytes).label("size_bytes"),
            func.count().label("hosts"),
            func.sum(cast(host_contents.c.verified, Integer)).label("hosts_verified"),
            *(func.sum(host_contents.c[name]).label(name) for name in _SUMMED),
        )
        .join(hosts, hosts.c.id == host_contents.c.host_id)
        .join(idcs, idcs.c.id == hosts.c.idc_id)
        .where(*_conditions(tenant_ids, idc, digest))
        .group_by(idcs.c.id, idcs.c.name, host_contents.c.tenant_id, host_contents.c.digest)
        .order_by(idcs.c.name, host_contents.c.digest, host_contents.c.tenant_id)
    )
    total = await connection.scalar(select(func.count()).select_from(statement.order_by(None).subquery()))
    found = (await connection.execute(statement.limit(request.limit).offset(request.offset))).all()
    crossed = await _crossed(connection, {(row.tenant_id, row.digest) for row in found})
    rows = [
        ProvenanceRow(
            idc=row.idc,
            tenant_id=row.tenant_id,
            digest=row.digest,
            size_bytes=int(row.size_bytes),
            hosts=int(row.hosts),
            hosts_verified=int(row.hosts_verified),
            # PostgreSQL sums BIGINT to NUMERIC.
            **{name: int(row._mapping[name]) for name in _SUMMED},
            regional_from_centre_bytes=crossed.get((row.idc_id, row.tenant_id, row.digest), 0),
        )
        for row in found
    ]
    return Page(rows, int(total or 0), request)


async def _crossed(connection: AsyncConnection, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str, str], int]:
    """Bytes over the WAN by (IDC id, tenant id, digest)."""
    if not keys:
        return {}
    rows = await connection.execute(
        select(
            regionals.c.idc_id,
            regional_contents.c.tenant_id,
            regional_contents.c.digest,
            func.sum(regional_contents.c.from_centre_bytes).label("bytes"),
        )
        .join(regionals, regionals.c.id == regional_contents.c.regional_id)
        .where(tuple_(regional_contents.c.tenant_id, regional_contents.c.digest).in_(sorted(keys)))
        .group_by(regionals.c.idc_id, regional_contents.c.tenant_id, regional_contents.c.digest)
    )
    return {(row.idc_id, row.tenant_id, row.digest): int(row.bytes) for row in rows}


def _conditions(tenant_ids: Collection[str] | None, idc: str | None, digest: str | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if tenant_ids is not None:
        conditions.append(host_contents.c.tenant_id.in_(sorted(tenant_ids)))
    if idc is not None:
        conditions.append(idcs.c.name == idc)
    if digest is not None:
        conditions.append(host_contents.c.digest == digest)
    return conditions
