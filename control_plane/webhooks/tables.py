"""Rows of the webhooks. Secrets are sealed; a delivery's body is kept as it is sent."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from control_plane.database.schema import Json, UtcDateTime, metadata

_ID = String(36)
# Literal text: both engines match a partial index by the text.
is_waiting = text("state = 'waiting'")

hooks = Table(
    "webhooks",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("tenant_id", _ID, ForeignKey("tenants.id", ondelete="CASCADE"), nullable=True, index=True),
    Column("url", String(2000), nullable=False),
    Column("topics", Json, nullable=False),
    Column("description", String(255), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("sealed_secret", LargeBinary, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("failures", Integer, nullable=False),
    Column("failing_since", UtcDateTime, nullable=True),
    Column("open_until", UtcDateTime, nullable=True),
    Column("disabled_reason", String(500), nullable=False),
    Column("dropped", Integer, nullable=False),
)

deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("hook_id", _ID, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("message_id", _ID, nullable=False),
    Column("topic", String(128), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("next_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("lease_until", UtcDateTime, nullable=True),
    Column("ended_at", UtcDateTime, nullable=True),
    Column("last_status", Integer, nullable=True),
    Column("last_error", String(500), nullable=False),
    # A message that the outbox hands out again finds its delivery made.
    UniqueConstraint("hook_id", "message_id"),
    Index("ix_webhook_deliveries_hook_id_created_at", "hook_id", "created_at"),
    Index(
        "ix_webhook_deliveries_waiting",
        "hook_id",
        "next_at",
        sqlite_where=is_waiting,
        postgresql_where=is_waiting,
    ),
)

attempts = Table(
    "webhook_attempts",
    metadata,
    Column("delivery_id", _ID, ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("status", Integer, nullable=True),
    Column("error", String(500), nullable=False),
    Column("seconds", Float, nullable=False),
)
