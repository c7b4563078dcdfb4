"""Deployments, which instance each of their slots has, and what they ran before. Slots name instances by id without a
foreign key: an instance may be forgotten at any moment, and the next look finds that.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from control_plane.database.schema import Json, UtcDateTime, metadata

_ID = String(36)

deployments = Table(
    "deployments",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("tenant_id", _ID, nullable=False),
    Column("tenant", String(255), nullable=False),
    Column("name", String(63), nullable=False),
    Column("reference", Text, nullable=False),
    Column("images", Json, nullable=False),
    Column("spec", Json, nullable=False),
    Column("rules", Json, nullable=False),
    Column("desired_state", String(16), nullable=False),
    Column("reschedule_after_seconds", Integer, nullable=False),
    Column("state_may_be_lost", Boolean, nullable=False),
    Column("exclusive", Boolean, nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("removing", Boolean, nullable=False),
    Column("look_at", UtcDateTime),
    Column("unplaced", Integer, nullable=False),
    Column("why", Json, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("rollout", Json, nullable=False),
    UniqueConstraint("tenant_id", "name"),
    Index("ix_deployments_look_at", "look_at"),
)

deployment_slots = Table(
    "deployment_slots",
    metadata,
    Column("deployment_id", _ID, ForeignKey("deployments.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("instance_id", _ID, nullable=False),
    Column("host_id", _ID, nullable=False),
    Column("successor_id", _ID, nullable=False),
    Column("successor_host_id", _ID, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("told_at", UtcDateTime),
    Index("ix_deployment_slots_host_id", "host_id"),
    Index("ix_deployment_slots_instance_id", "instance_id"),
)

deployment_revisions = Table(
    "deployment_revisions",
    metadata,
    Column("deployment_id", _ID, ForeignKey("deployments.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("reference", Text, nullable=False),
    Column("images", Json, nullable=False),
    Column("spec", Json, nullable=False),
    Column("cause", Text, nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
)
