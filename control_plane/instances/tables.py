"""Rows of instances: the desired side, and beside it what the host said last, so that a report never locks or rewrites
what is wanted.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, String, Table, Text, UniqueConstraint

from control_plane.database.schema import Json, UtcDateTime, metadata

_ID = String(36)

instances = Table(
    "instances",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("tenant_id", _ID, nullable=False),
    Column("tenant", String(255), nullable=False),
    Column("host_id", _ID, nullable=False),
    Column("idc_id", _ID, nullable=False),
    Column("name", String(63), nullable=False),
    Column("image", Json, nullable=False),
    Column("spec", Json, nullable=False),
    Column("desired_state", String(16), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("restart_nonce", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    UniqueConstraint("tenant_id", "name", "host_id"),
    Index("ix_instances_host_id", "host_id"),
    Index("ix_instances_idc_id", "idc_id"),
)

instance_statuses = Table(
    "instance_statuses",
    metadata,
    Column("instance_id", _ID, ForeignKey("instances.id", ondelete="CASCADE"), primary_key=True),
    Column("observed_generation", BigInteger, nullable=False),
    Column("phase", String(16), nullable=False),
    Column("health", String(16), nullable=False),
    Column("detail", Text, nullable=False),
    Column("runtime_id", String(255), nullable=False),
    Column("restart_count", BigInteger, nullable=False),
    Column("reported_at", UtcDateTime, nullable=False),
)
