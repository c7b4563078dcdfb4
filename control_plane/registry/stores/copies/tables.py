"""Rows of copies. None refers to `blobs`: rows may come before it and outlive it, and are swept (store.py)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from control_plane.database.schema import UtcDateTime, metadata

_DIGEST = String(140)

blob_copies = Table(
    "blob_copies",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    Column("store", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("state", String(8), nullable=False),
    Column("copied_at", UtcDateTime, nullable=False),
    # The cursor of the scrub: the oldest is read next. None before any.
    Column("verified_at", UtcDateTime),
    Index("ix_blob_copies_state_verified_at", "state", "verified_at"),
)

blob_placements = Table(
    "blob_placements",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    Column("last_read_at", UtcDateTime, nullable=False),
    Column("review_after", UtcDateTime, nullable=False, index=True),
    # Copies wanted for its class minus good ones, as of the last review.
    Column("short", Integer, nullable=False, server_default="0"),
)

lost_blobs = Table(
    "lost_blobs",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("found_at", UtcDateTime, nullable=False),
    Column("reason", Text, nullable=False),
)
