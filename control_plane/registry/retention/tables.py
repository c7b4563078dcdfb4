"""Rows of immutability rules, retention policies, their runs, and when manifests were pulled last.

`tenant_id` is empty for rules of the platform. The rows of a tenant go with it (`RetentionService.tenant_going`).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from control_plane.database.schema import Json, UtcDateTime, metadata

_ID = String(36)

immutability_rules = Table(
    "immutability_rules",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("tenant_id", _ID, nullable=False, index=True),
    Column("repositories", Json, nullable=False),
    Column("tags", Json, nullable=False),
    Column("except_tags", Json, nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

retention_policies = Table(
    "retention_policies",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("tenant_id", _ID, nullable=False),
    Column("name", String(63), nullable=False),
    # Patterns, rules and scope as JSON: they are read and written whole, and never searched.
    Column("definition", Json, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("interval_hours", Integer),
    Column("next_run_at", UtcDateTime, index=True),
    UniqueConstraint("tenant_id", "name"),
)

retention_runs = Table(
    "retention_runs",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("policy_id", ForeignKey("retention_policies.id", ondelete="CASCADE"), nullable=False),
    Column("tenant_id", _ID, nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_by", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("repositories", Integer, nullable=False),
    Column("examined", BigInteger, nullable=False),
    Column("kept", BigInteger, nullable=False),
    Column("deleted", BigInteger, nullable=False),
    Column("skipped", BigInteger, nullable=False),
    Column("detail", Text, nullable=False),
    Index("ix_retention_runs_policy_id", "policy_id", "created_at"),
)

# No foreign key: what was pulled is written some seconds later, when the manifest may be gone, and must not wait for
# whoever deletes it. Rows without a manifest are swept.
manifest_pulls = Table(
    "manifest_pulls",
    metadata,
    Column("repository_id", _ID, primary_key=True),
    Column("digest", String(140), primary_key=True),
    Column("pulled_at", UtcDateTime, nullable=False),
)
