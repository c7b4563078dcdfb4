"""Where the fleet is written down. Rows of revoked identities stay, so that history keeps its names.

A heartbeat never touches these tables; what changes often (`last_seen_at`) is flushed for all sessions at once.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.schema import SchemaItem

from control_plane.database.schema import Json, UtcDateTime, metadata

idcs = Table(
    "idcs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("display_name", String(255), nullable=False),
    # Grows with every change of what the IDC shall hold. Starts at 1, because 0 means "none" to a regional.
    Column("orders_generation", BigInteger, nullable=False, default=1, server_default="1"),
    Column("created_at", UtcDateTime, nullable=False),
)


def _identity_columns() -> tuple[SchemaItem, ...]:
    """What a host and a regional have in common: a name in an IDC, one session at most, and perhaps an end."""
    return (
        Column("id", String(36), primary_key=True),
        Column("idc_id", ForeignKey(idcs.c.id), nullable=False),
        Column("name", String(100), nullable=False),
        Column("version", String(64), nullable=False, default="", server_default=""),
        # Whether it takes one token for all contents of an image; null until it said.
        Column("image_tokens", Boolean),
        Column("created_at", UtcDateTime, nullable=False),
        Column("revoked_at", UtcDateTime),
        Column("last_seen_at", UtcDateTime),
        # The stream that is attached, and the replica that holds it; null when it ended in good order.
        Column("session_id", String(36)),
        Column("session_replica", String(36)),
        # When a second process with the same certificate was last refused.
        Column("conflict_at", UtcDateTime),
        UniqueConstraint("idc_id", "name"),
    )


hosts = Table(
    "hosts",
    metadata,
    *_identity_columns(),
    Column("facts", Json, nullable=False, default=dict, server_default="{}"),
    # What operators say of it; what it says of itself is in `facts`.
    Column("labels", Json, nullable=False, default=dict, server_default="{}"),
    Column("assignments_generation", BigInteger, nullable=False, default=1, server_default="1"),
)

regionals = Table(
    "regionals",
    metadata,
    *_identity_columns(),
    Column("addresses", Json, nullable=False, default=list, server_default="[]"),
    Column("content_url", String(255), nullable=False, default="", server_default=""),
    Column("swarm_url", String(255), nullable=False, default="", server_default=""),
    Column("peer_address", String(255), nullable=False, default="", server_default=""),
    # What it said last is wrong there.
    Column("warnings", Json, nullable=False, default=list, server_default="[]"),
)

join_tokens = Table(
    "join_tokens",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("idc_id", ForeignKey(idcs.c.id), nullable=False),
    Column("name", String(63)),
    Column("secret_hash", String(64), nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime),
    # The public key that it was spent for: only that key may try again.
    Column("used_key_hash", String(64)),
    Column("identity_id", String(36)),
)

certificates = Table(
    "certificates",
    metadata,
    Column("serial", String(40), primary_key=True),  # hexadecimal
    Column("kind", String(16), nullable=False),
    Column("identity_id", String(36), nullable=False),
    Column("key_hash", String(64), nullable=False),
    Column("issued_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
    Index("ix_certificates_kind_identity_id", "kind", "identity_id"),
)

authorities = Table(
    "certificate_authorities",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("certificate_pem", Text, nullable=False),
    Column("sealed_key", LargeBinary, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
