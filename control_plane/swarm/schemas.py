"""Wire models of `/api/v1/swarm`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel

from control_plane.swarm.bad_peers_store import OffenceRow
from control_plane.swarm.provenance_queries import ProvenanceRow
from control_plane.swarm.queries import ContentRow, EgressRow, OrderRow

# For names in queries: PostgreSQL takes no NUL, not even in what it is asked for.
NO_NUL = "^[^\\x00]*$"


class EgressView(BaseModel):
    """Payload bytes of one content that left the centre for one IDC."""

    idc: str
    digest: str
    size_bytes: int
    bytes: int


class HostContentView(BaseModel):
    """What one host holds of one content, and where its bytes came from."""

    host: str
    host_id: str
    idc: str
    tenant: str
    digest: str
    size_bytes: int
    held_bytes: int
    verified: bool
    from_centre_bytes: int
    from_regional_bytes: int
    from_peers_bytes: int
    reused_bytes: int
    detail: str
    reported_at: datetime


class SourceView(BaseModel):
    """Payload bytes by where they came from. `source`: centre, regional, peers or reused; `idc`: where the source
    stands, empty for the centre.
    """

    source: str
    idc: str
    bytes: int


class ProvenanceView(BaseModel):
    """Where the hosts of one IDC had one content from. The sources add up to `held_bytes` and `wasted_bytes`, but for
    what a killed agent had not yet written down.
    """

    idc: str
    tenant: str
    digest: str
    size_bytes: int
    hosts: int
    hosts_verified: int
    held_bytes: int
    sources: list[SourceView]
    wasted_bytes: int
    regional_from_centre_bytes: int


class OffenceView(BaseModel):
    """A host says that somebody sent it false bytes. `source`: where they came from; `accused`: whose the IDC's tracker
    said that this is, `accused_name` its idc/name.
    """

    id: str
    kind: str
    idc: str
    accuser: str
    accuser_id: str
    tenant: str
    digest: str
    source: str
    accused: str
    accused_name: str
    occurred_at: datetime
    reported_at: datetime


class RegionalShareView(BaseModel):
    regional: str
    regional_id: str
    phase: str
    held_bytes: int
    from_centre_bytes: int
    detail: str


class OrderView(BaseModel):
    """A content that an IDC shall hold, and how far its regionals are."""

    idc: str
    tenant: str
    digest: str
    size_bytes: int
    media_type: str
    regionals: list[RegionalShareView]


def egress_view(row: EgressRow) -> EgressView:
    return EgressView(idc=row.idc, digest=row.digest, size_bytes=row.size_bytes, bytes=row.bytes)


def host_content_view(row: ContentRow, tenants: Mapping[str, str]) -> HostContentView:
    return HostContentView(
        host=row.host,
        host_id=row.host_id,
        idc=row.idc,
        tenant=tenants.get(row.tenant_id, ""),
        digest=row.digest,
        size_bytes=row.size_bytes,
        held_bytes=row.held_bytes,
        verified=row.verified,
        from_centre_bytes=row.from_centre_bytes,
        from_regional_bytes=row.from_regional_bytes,
        from_peers_bytes=row.from_peers_bytes,
        reused_bytes=row.reused_bytes,
        detail=row.detail,
        reported_at=row.reported_at,
    )


def provenance_view(row: ProvenanceRow, tenants: Mapping[str, str]) -> ProvenanceView:
    sources = (
        ("centre", "", row.from_centre_bytes),
        ("regional", row.idc, row.from_regional_bytes),
        ("peers", row.idc, row.from_peers_bytes),
        ("reused", row.idc, row.reused_bytes),
    )
    return ProvenanceView(
        idc=row.idc,
        tenant=tenants.get(row.tenant_id, ""),
        digest=row.digest,
        size_bytes=row.size_bytes,
        hosts=row.hosts,
        hosts_verified=row.hosts_verified,
        held_bytes=row.held_bytes,
        sources=[SourceView(source=source, idc=idc, bytes=count) for source, idc, count in sources],
        wasted_bytes=row.wasted_bytes,
        regional_from_centre_bytes=row.regional_from_centre_bytes,
    )


def offence_view(row: OffenceRow, tenants: Mapping[str, str]) -> OffenceView:
    return OffenceView(
        id=row.id,
        kind=row.kind,
        idc=row.idc,
        accuser=row.accuser,
        accuser_id=row.accuser_id,
        tenant=tenants.get(row.tenant_id, ""),
        digest=row.digest,
        source=row.source,
        accused=row.accused,
        accused_name=row.accused_name,
        occurred_at=row.occurred_at,
        reported_at=row.reported_at,
    )


def order_view(row: OrderRow, tenants: Mapping[str, str]) -> OrderView:
    shares = [
        RegionalShareView(
            regional=share.regional,
            regional_id=share.regional_id,
            phase=share.phase,
            held_bytes=share.held_bytes,
            from_centre_bytes=share.from_centre_bytes,
            detail=share.detail,
        )
        for share in row.regionals
    ]
    return OrderView(
        idc=row.idc,
        tenant=tenants.get(row.tenant_id, ""),
        digest=row.digest,
        size_bytes=row.size_bytes,
        media_type=row.media_type,
        regionals=shares,
    )
