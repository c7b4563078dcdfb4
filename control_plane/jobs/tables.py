"""Rows of the jobs and of the periodic ticks."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, Index, Integer, String, Table, Text, text

from control_plane.database.schema import Json, UtcDateTime, metadata
from control_plane.jobs.model import ACTIVE

# Literal text, not parameters: both engines match an ON CONFLICT target with its partial index by the text.
is_active = text("state IN ({})".format(", ".join(f"'{state}'" for state in ACTIVE)))

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("payload", Json, nullable=False),
    Column("state", String(16), nullable=False),
    Column("unique_key", String(255)),
    Column("attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("lease_owner", String(36)),
    Column("lease_until", UtcDateTime),
    Column("cancel_requested", Boolean, nullable=False),
    Column("progress", Float, nullable=False),
    Column("progress_note", String(255), nullable=False),
    Column("result", Json),
    Column("error_code", String(64)),
    Column("error", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    # The sweep reads by state and time.
    Index("ix_jobs_state_due_at", "state", "due_at"),
    Index("ix_jobs_state_lease_until", "state", "lease_until"),
    # One active job a key; ended ones keep theirs.
    Index("uq_jobs_active_key", "kind", "unique_key", unique=True, sqlite_where=is_active, postgresql_where=is_active),
)

ticks = Table(
    "periodic_ticks",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("next_at", UtcDateTime, nullable=False),
)
