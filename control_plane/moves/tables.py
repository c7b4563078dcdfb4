"""Moves, open ones and those whose outcome is kept for a while."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, String, Table, Text

from control_plane.database.schema import Json, UtcDateTime, metadata

_ID = String(36)

instance_moves = Table(
    "instance_moves",
    metadata,
    Column("id", _ID, primary_key=True),
    # The instance of an open move; empty once it ended, so that an instance has one open move at most.
    Column("open_instance_id", _ID),
    Column("instance_id", _ID, nullable=False),
    Column("tenant_id", _ID, nullable=False),
    Column("tenant", String(255), nullable=False),
    Column("name", String(63), nullable=False),
    Column("source_host_id", _ID, nullable=False),
    Column("source_idc_id", _ID, nullable=False),
    Column("target_host_id", _ID, nullable=False),
    Column("target_idc_id", _ID, nullable=False),
    Column("stage", String(16), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("requested_by", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("stage_at", UtcDateTime, nullable=False),
    Column("stalled_at", UtcDateTime, nullable=False),
    Column("give_up_at", UtcDateTime, nullable=False),
    Column("addresses", Json, nullable=False),
    Column("copied_bytes", BigInteger, nullable=False),
    Column("copying", Boolean, nullable=False),
    Column("taken", Boolean, nullable=False),
    Column("gone", Boolean, nullable=False),
    Column("trouble", Text, nullable=False),
    Column("trouble_is_final", Boolean, nullable=False),
    Column("cancelled_by", String(255), nullable=False),
    Column("why", Text, nullable=False),
    Column("ended_at", UtcDateTime),
    Index("ix_instance_moves_instance_id", "instance_id"),
    Index("ix_instance_moves_open_instance_id", "open_instance_id", unique=True),
    Index("ix_instance_moves_ended_at", "ended_at"),
)
