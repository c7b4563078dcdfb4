"""Rows of the collection: two review queues, the trash, and what was done.

The queues have no foreign key to what they review except the repository: a review of something that is gone is dropped
when it is due. `missing_blobs` is what the last sweep found.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from control_plane.database.schema import UtcDateTime, metadata

_ID = String(36)
_DIGEST = String(140)
_TAG = String(128).with_variant(String(128, collation="C"), "postgresql")

link_reviews = Table(
    "link_reviews",
    metadata,
    Column("repository_id", ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", _DIGEST, primary_key=True),
    Column("review_after", UtcDateTime, nullable=False, index=True),
    # Until then a client counts on the link; purging the trash does not bring the review before it.
    Column("promised_until", UtcDateTime),
    Column("reason", String(32), nullable=False),
    Index("ix_link_reviews_repository_id_review_after", "repository_id", "review_after"),
)

blob_reviews = Table(
    "blob_reviews",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    Column("review_after", UtcDateTime, nullable=False, index=True),
    Column("reason", String(32), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("error", Text, nullable=False, server_default=""),
)

deleted_manifests = Table(
    "deleted_manifests",
    metadata,
    Column("repository_id", ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", _DIGEST, primary_key=True, index=True),
    Column("media_type", String(255), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("pushed_at", UtcDateTime, nullable=False),
    Column("pushed_by", String(36), nullable=False),
    Column("deleted_at", UtcDateTime, nullable=False),
    # A name, for people; empty for a periodic job.
    Column("deleted_by", String(255), nullable=False),
    Column("purge_after", UtcDateTime, nullable=False, index=True),
)

deleted_references = Table(
    "deleted_references",
    metadata,
    Column("repository_id", _ID, primary_key=True),
    Column("manifest", _DIGEST, primary_key=True),
    Column("digest", _DIGEST, primary_key=True, index=True),
    # As in `manifest_references`; "foreign" is not kept.
    Column("kind", String(8), nullable=False),
    ForeignKeyConstraint(
        ["repository_id", "manifest"],
        ["deleted_manifests.repository_id", "deleted_manifests.digest"],
        ondelete="CASCADE",
    ),
    Index("ix_deleted_references_repository_id_digest", "repository_id", "digest"),
)

# The last deletion of each name. The manifest may be in the trash, live, or purged.
deleted_tags = Table(
    "deleted_tags",
    metadata,
    Column("repository_id", ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("name", _TAG, primary_key=True),
    Column("digest", _DIGEST, nullable=False),
    Column("deleted_at", UtcDateTime, nullable=False),
    Column("deleted_by", String(255), nullable=False),
    Column("purge_after", UtcDateTime, nullable=False, index=True),
    Index("ix_deleted_tags_repository_id_digest", "repository_id", "digest"),
)

collection_runs = Table(
    "collection_runs",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("started_at", UtcDateTime, nullable=False, index=True),
    Column("finished_at", UtcDateTime),
    Column("examined", BigInteger, nullable=False),
    Column("purged", BigInteger, nullable=False),
    Column("unlinked", BigInteger, nullable=False),
    Column("deleted", BigInteger, nullable=False),
    Column("deleted_bytes", BigInteger, nullable=False),
    Column("adopted", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
    Column("cursor", _DIGEST, nullable=False),
)

blob_removals = Table(
    "blob_removals",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("digest", _DIGEST, nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("reason", String(32), nullable=False),
    Column("removed_at", UtcDateTime, nullable=False, index=True),
    Column("run_id", _ID, nullable=False),
)

missing_blobs = Table(
    "missing_blobs",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("stored_size", BigInteger),
    Column("repositories", Integer, nullable=False),
    Column("found_at", UtcDateTime, nullable=False),
)
