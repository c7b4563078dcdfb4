"""What operators say of hosts as places to run things. A host without a row is open."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Integer, String, Table, Text

from control_plane.database.schema import Json, UtcDateTime, metadata

host_standings = Table(
    "host_standings",
    metadata,
    Column("host_id", ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True),
    Column("standing", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", String(255), nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("max_unavailable", Integer, nullable=False),
)

capacity_policies = Table(
    "capacity_policies",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("target_id", String(36), primary_key=True),
    Column("policy", Json, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
