"""One row a scope that has a policy of its own."""

from __future__ import annotations

from sqlalchemy import Column, String, Table

from control_plane.database.schema import Json, UtcDateTime, metadata

link_limits = Table(
    "link_limits",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("target_id", String(36), primary_key=True),
    Column("policy", Json, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
