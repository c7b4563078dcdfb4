"""Preheats, and the hosts that they chose. What an IDC shall hold for them are rows of `wants` whose owner they are."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, SmallInteger, String, Table, Text

from control_plane.database.schema import Json, UtcDateTime, metadata

_ID = String(36)

preheats = Table(
    "preheats",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("tenant_id", _ID, nullable=False),
    Column("tenant", String(255), nullable=False),
    Column("reference", Text, nullable=False),
    Column("images", Json, nullable=False),
    Column("targets", Json, nullable=False),
    Column("starts_at", UtcDateTime),
    Column("ends_at", UtcDateTime),
    Column("daily", Json),
    Column("lower_effort", Boolean, nullable=False),
    Column("keep_until", UtcDateTime),
    Column("created_by", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("effort", SmallInteger, nullable=False),
    Column("idc_ids", Json, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("cancelled", Boolean, nullable=False),
    Index("ix_preheats_tenant_id", "tenant_id"),
    Index("ix_preheats_ended_at", "ended_at"),
)

preheat_hosts = Table(
    "preheat_hosts",
    metadata,
    Column("preheat_id", _ID, ForeignKey("preheats.id", ondelete="CASCADE"), primary_key=True),
    Column("host_id", _ID, primary_key=True),
    Column("idc_id", _ID, nullable=False),
    Column("architecture", String(32), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("detail", Text, nullable=False),
    Index("ix_preheat_hosts_host_id", "host_id"),
)
