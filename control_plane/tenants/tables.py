"""Rows of tenants, users and credentials. No row holds a secret: passwords as argon2id, random secrets as SHA-256,
private keys sealed.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, LargeBinary, String, Table, Text, UniqueConstraint

from control_plane.database.schema import UtcDateTime, metadata

_ID = String(36)

tenants = Table(
    "tenants",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("display_name", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("display_name", String(255), nullable=False),
    Column("email", String(255), nullable=True),
    Column("password_hash", String(255), nullable=False),
    Column("platform_admin", Boolean, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("token_generation", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

members = Table(
    "members",
    metadata,
    Column("tenant_id", _ID, ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", _ID, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Index("ix_members_user_id", "user_id"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("user_id", _ID, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("secret_hash", String(64), nullable=False),
    # A key that was limited to a tenant goes with it; it must never become a key without that limit.
    Column("tenant_id", _ID, ForeignKey("tenants.id", ondelete="CASCADE"), nullable=True),
    Column("role", String(16), nullable=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=True),
    Column("last_used_at", UtcDateTime, nullable=True),
    Column("revoked_at", UtcDateTime, nullable=True),
    Index("ix_api_keys_user_id", "user_id"),
    Index("ix_api_keys_tenant_id", "tenant_id"),
)

groups = Table(
    "groups",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("tenant_id", _ID, ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("tenant_id", "name"),
)

group_members = Table(
    "group_members",
    metadata,
    Column("group_id", _ID, ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", _ID, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Index("ix_group_members_user_id", "user_id"),
)

robots = Table(
    "robots",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("tenant_id", _ID, ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("description", String(255), nullable=False),
    # A JSON list of [pattern, [action, ...]]: read and replaced as a whole.
    Column("scopes", Text, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("expires_at", UtcDateTime, nullable=True),
    Column("created_by", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("tenant_id", "name"),
)

robot_keys = Table(
    "robot_keys",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("robot_id", _ID, ForeignKey("robots.id", ondelete="CASCADE"), nullable=False),
    Column("secret_hash", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=True),
    Column("last_used_at", UtcDateTime, nullable=True),
    Index("ix_robot_keys_robot_id", "robot_id"),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("id", _ID, primary_key=True),
    # Unique: of two replicas that make the next key at once, one wins and the other uses its key.
    Column("sequence", Integer, nullable=False, unique=True),
    Column("sealed_private_pem", LargeBinary, nullable=False),
    Column("public_pem", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("verifies_until", UtcDateTime, nullable=True),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("family_id", _ID, nullable=False),
    Column("user_id", _ID, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("secret_hash", String(64), nullable=False),
    # The user's generation when it was made: a later password ends it without touching this row.
    Column("generation", Integer, nullable=False),
    # The access token that was handed out with it: ended together with the family.
    Column("access_id", _ID, nullable=False),
    Column("access_expires_at", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime, nullable=True),
    Column("revoked_at", UtcDateTime, nullable=True),
    Index("ix_refresh_tokens_family_id", "family_id"),
    Index("ix_refresh_tokens_user_id", "user_id"),
    Index("ix_refresh_tokens_access_id", "access_id"),
    Index("ix_refresh_tokens_expires_at", "expires_at"),
)

registry_logins = Table(
    "registry_logins",
    metadata,
    Column("id", _ID, primary_key=True),
    # A user or a robot: who is gone is found out when it is shown.
    Column("user_id", _ID, nullable=False, index=True),
    Column("key_id", _ID, nullable=True),
    Column("robot", Boolean, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("secret_hash", String(64), nullable=False),
    Column("client", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
    Column("last_used_at", UtcDateTime, nullable=True),
)

revoked_tokens = Table(
    "revoked_tokens",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("user_id", _ID, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Index("ix_revoked_tokens_user_id", "user_id"),
    Index("ix_revoked_tokens_expires_at", "expires_at"),
)
