"""The rows of replication. A rule's wishes are one JSON document: only what queries ask for is a column."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, String, Table, Text, text

from control_plane.database.schema import Json, UtcDateTime, metadata

_NAME = String(255).with_variant(String(255, collation="C"), "postgresql")

replication_endpoints = Table(
    "replication_endpoints",
    metadata,
    Column("id", String(36), primary_key=True),
    # Both "" for the platform.
    Column("tenant_id", String(36), nullable=False),
    Column("tenant", _NAME, nullable=False),
    Column("name", _NAME, nullable=False),
    Column("url", String(512), nullable=False),
    Column("username", String(255), nullable=False),
    # The password, sealed with the row's identity; null: no credentials.
    Column("sealed", LargeBinary),
    Column("ca_pem", Text, nullable=False),
    # Hosts, separated by spaces.
    Column("auth_hosts", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("revision", Integer, nullable=False, server_default="1"),
    Column("checked_at", UtcDateTime),
    Column("trouble", Text, nullable=False, server_default=""),
    Index("ix_replication_endpoints_name", "tenant_id", "name", unique=True),
)

replication_rules = Table(
    "replication_rules",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("tenant_id", String(36), nullable=False),
    Column("tenant", _NAME, nullable=False),
    Column("name", _NAME, nullable=False),
    Column("endpoint_id", ForeignKey("replication_endpoints.id"), nullable=False, index=True),
    Column("direction", String(8), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("on_event", Boolean, nullable=False),
    Column("wishes", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("next_run_at", UtcDateTime, index=True),
    Index("ix_replication_rules_name", "tenant_id", "name", unique=True),
)

replication_executions = Table(
    "replication_executions",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("rule_id", ForeignKey("replication_rules.id", ondelete="CASCADE"), nullable=False),
    Column("tenant_id", String(36), nullable=False),
    Column("tenant", _NAME, nullable=False),
    Column("cause", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime, index=True),
    Index("ix_replication_executions_rule", "rule_id", "created_at"),
    Index("ix_replication_executions_tenant", "tenant_id", "created_at"),
)

replication_tasks = Table(
    "replication_tasks",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("execution_id", ForeignKey("replication_executions.id", ondelete="CASCADE"), nullable=False),
    Column("rule_id", String(36), nullable=False),
    Column("endpoint_id", String(36), nullable=False),
    Column("work", String(8), nullable=False),
    Column("repository", _NAME, nullable=False),
    Column("reference", String(255), nullable=False),
    Column("destination", String(512), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("bytes_done", BigInteger, nullable=False),
    Column("detail", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("next_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("lease", String(36)),
    Column("lease_until", UtcDateTime),
    Column("checkpoint", Json, nullable=False),
    # A plan that is carried out twice lists nothing twice.
    Index("ix_replication_tasks_what", "execution_id", "work", "repository", "reference", unique=True),
    # What is open is little; what ended is kept for a while.
    Index(
        "ix_replication_tasks_open",
        "endpoint_id",
        "next_at",
        sqlite_where=text("state IN ('pending', 'running')"),
        postgresql_where=text("state IN ('pending', 'running')"),
    ),
)

replication_copies = Table(
    "replication_copies",
    metadata,
    # What a rule copied or found there, so that it deletes nothing else. `reference` is a tag or a digest.
    Column("rule_id", ForeignKey("replication_rules.id", ondelete="CASCADE"), primary_key=True),
    Column("destination", String(512), primary_key=True),
    Column("repository", _NAME, primary_key=True),
    Column("reference", String(255), primary_key=True),
    # The endpoint that has it; "" for here.
    Column("place", String(36), nullable=False),
    Column("digest", String(140), nullable=False),
    Column("made", Boolean, nullable=False),
    Index("ix_replication_copies_what", "place", "destination", "digest"),
)

replication_messages = Table(
    "replication_messages",
    metadata,
    # Announcements that were acted on: each comes at least once.
    Column("message_id", String(36), primary_key=True),
    Column("seen_at", UtcDateTime, nullable=False, index=True),
)
