"""The rows of mirrors. What they hold lies in the registry's own tables."""

from __future__ import annotations

from sqlalchemy import Column, Integer, LargeBinary, String, Table, Text

from control_plane.database.schema import UtcDateTime, metadata

_NAME = String(255).with_variant(String(255, collation="C"), "postgresql")

mirrors = Table(
    "mirrors",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("tenant_id", String(36), nullable=False, index=True),
    Column("tenant", _NAME, nullable=False, index=True),
    Column("name", _NAME, nullable=False, unique=True),
    Column("upstream_url", String(512), nullable=False),
    Column("upstream_path", String(255), nullable=False),
    Column("username", String(255), nullable=False, server_default=""),
    # The password, sealed with the row's identity; null: no credentials.
    Column("sealed", LargeBinary),
    Column("ca_pem", Text, nullable=False, server_default=""),
    # Hosts, separated by spaces.
    Column("auth_hosts", Text, nullable=False, server_default=""),
    Column("tag_ttl_seconds", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("revision", Integer, nullable=False, server_default="1"),
)
