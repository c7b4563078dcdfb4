"""Quota's rows: accounts, charges and reservations (see the package)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, text

from control_plane.database.schema import UtcDateTime, metadata

quota_accounts = Table(
    "quota_accounts",
    metadata,
    Column("kind", String(8), primary_key=True),
    Column("subject_id", String(64), primary_key=True),
    # False: the defaults of the settings are in force, and the three limits mean nothing.
    Column("own_limits", Boolean, nullable=False, server_default=text("false")),
    Column("max_storage_bytes", BigInteger),
    Column("max_image_count", BigInteger),
    Column("max_image_size_bytes", BigInteger),
    Column("used_bytes", BigInteger, nullable=False, server_default="0"),
    Column("reserved_bytes", BigInteger, nullable=False, server_default="0"),
    Column("image_count", BigInteger, nullable=False, server_default="0"),
    Column("warned_percent", Integer, nullable=False, server_default="0"),
)

quota_charges = Table(
    "quota_charges",
    metadata,
    Column("tenant_id", String(36), primary_key=True),
    Column("digest", String(140), primary_key=True),
    # Who brought the blob to the tenant first, and pays as long as anybody there links it; "" is nobody.
    Column("user_id", String(64), nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    # How many repositories of the tenant link it.
    Column("links", Integer, nullable=False),
)

quota_reservations = Table(
    "quota_reservations",
    metadata,
    Column("upload_id", String(36), primary_key=True),
    Column("tenant_id", String(36), nullable=False),
    Column("user_id", String(64), nullable=False, index=True),
    Column("bytes", BigInteger, nullable=False),
    Column("renewed_at", UtcDateTime, nullable=False, index=True),
    # When the sweep first found no upload for it; the second time it goes.
    Column("missing_since", UtcDateTime),
    Index("ix_quota_reservations_tenant_id", "tenant_id"),
)
