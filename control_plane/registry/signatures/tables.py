"""Rows of trusted keys and signature policies. What is attached to images are manifests like others."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, String, Table, Text, UniqueConstraint

from control_plane.database.schema import Json, UtcDateTime, metadata

_ID = String(36)

trusted_keys = Table(
    "trusted_keys",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("tenant_id", _ID, nullable=False),
    Column("name", String(63), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("pem", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("tenant_id", "name"),
    # One key under two names would count twice where two signers are needed.
    UniqueConstraint("tenant_id", "fingerprint"),
)

signature_policies = Table(
    "signature_policies",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("tenant_id", _ID, nullable=False),
    Column("name", String(63), nullable=False),
    Column("definition", Json, nullable=False),
    Column("enabled", Boolean, nullable=False),
    UniqueConstraint("tenant_id", "name"),
)
