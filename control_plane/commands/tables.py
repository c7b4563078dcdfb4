"""Commands, open ones and those whose outcome is kept for a while."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, String, Table, Text

from control_plane.database.schema import UtcDateTime, metadata

_ID = String(36)

commands = Table(
    "commands",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("host_id", _ID, nullable=False),
    Column("verb", String(32), nullable=False),
    Column("instance_id", _ID, nullable=False),
    Column("tenant", String(255), nullable=False),
    Column("requested_by", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("begin_by", UtcDateTime, nullable=False),
    Column("end_seconds", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("cancel_wanted", Boolean, nullable=False),
    Column("detail", Text, nullable=False),
    Column("result", Text, nullable=False),
    Column("updated_at", UtcDateTime),
    Column("argument", String(255), nullable=False),
    Index("ix_commands_state_host_id", "state", "host_id"),
    Index("ix_commands_host_id", "host_id"),
)
