"""Channels that are open at replicas, so that limits count those of all. Rows of a replica that died lapse."""

from __future__ import annotations

from sqlalchemy import Column, Index, String, Table

from control_plane.database.schema import UtcDateTime, metadata

_ID = String(36)

open_channels = Table(
    "open_channels",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("replica", String(64), nullable=False),
    Column("host_id", _ID, nullable=False),
    Column("tenant_id", _ID, nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Index("ix_open_channels_tenant_id", "tenant_id"),
    Index("ix_open_channels_user_id", "user_id"),
    Index("ix_open_channels_host_id", "host_id"),
)
