"""Wire models of `/api/v1/swarm`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel

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
    detail: str
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
        detail=row.detail,
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
