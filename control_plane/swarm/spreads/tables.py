"""One row for each host and content of its last spread: written when the host begins and when it is done, so that hosts
never wait for each other. Rows older than a month go.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, String, Table

from control_plane.database.schema import UtcDateTime, metadata

_ID = String(36)

spread_shares = Table(
    "spread_shares",
    metadata,
    Column("host_id", _ID, primary_key=True),
    Column("tenant_id", _ID, primary_key=True),
    Column("digest", String(140), primary_key=True),
    Column("idc_id", _ID, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("began_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("from_centre_bytes", BigInteger, nullable=False),
    Column("from_regional_bytes", BigInteger, nullable=False),
    Column("from_peers_bytes", BigInteger, nullable=False),
    Index("ix_spread_shares_idc_id_tenant_id_digest", "idc_id", "tenant_id", "digest"),
    Index("ix_spread_shares_began_at", "began_at"),
)
