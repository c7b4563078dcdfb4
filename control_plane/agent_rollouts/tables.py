"""Rollouts of the agent, and the hosts that were told. What an IDC shall hold for them are rows of `wants`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, SmallInteger, String, Table, Text

from control_plane.database.schema import Json, UtcDateTime, metadata

_ID = String(36)

agent_rollouts = Table(
    "agent_rollouts",
    metadata,
    Column("id", _ID, primary_key=True),
    # Not "order", which SQL keeps for itself. Unique: two that begin at one moment are one too many.
    Column("order_number", BigInteger, nullable=False, unique=True),
    Column("tenant_id", _ID, nullable=False),
    Column("tenant", String(255), nullable=False),
    Column("reference", Text, nullable=False),
    Column("version", String(64), nullable=False),
    Column("images", Json, nullable=False),
    Column("targets", Json, nullable=False),
    Column("pace", Json, nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("wave", SmallInteger, nullable=False),
    Column("settled_at", UtcDateTime),
    Column("idc_ids", Json, nullable=False),
    Column("ended_at", UtcDateTime),
    Index("ix_agent_rollouts_state", "state"),
)

agent_rollout_hosts = Table(
    "agent_rollout_hosts",
    metadata,
    Column("rollout_id", _ID, ForeignKey("agent_rollouts.id", ondelete="CASCADE"), primary_key=True),
    Column("host_id", _ID, primary_key=True),
    Column("idc_id", _ID, nullable=False),
    Column("architecture", String(32), nullable=False),
    Column("wave", SmallInteger, nullable=False),
    Column("was_online", Boolean, nullable=False),
    Column("phase", String(16), nullable=False),
    Column("detail", Text, nullable=False),
    Index("ix_agent_rollout_hosts_host_id", "host_id"),
)
