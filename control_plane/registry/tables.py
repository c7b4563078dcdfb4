"""The registry's rows.

A blob is one row and one stored content; `repository_blobs` is who sees it. Manifests are kept whole in SQL (they are
small, and reading one then costs one query and no object store), once a repository. `manifest_references` is the graph
that listing sizes, deletion checks and garbage collection walk without parsing JSON.

Names and tags are compared byte by byte on both engines: pages of tags continue after `last` in that order
(distribution specification, "Content Discovery"), which a locale's collation would break.
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
    text,
)

from control_plane.database.schema import UtcDateTime, metadata

_DIGEST = String(140)
_NAME = String(255).with_variant(String(255, collation="C"), "postgresql")
_TAG = String(128).with_variant(String(128, collation="C"), "postgresql")

repositories = Table(
    "repositories",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", _NAME, nullable=False, unique=True),
    Column("tenant", _NAME, nullable=False, index=True),
    Column("tenant_id", String(36), nullable=False, index=True),
    # Who pulls besides those whom roles and grants let in: "private" nobody, "public" everybody, also without login.
    Column("visibility", String(16), nullable=False, server_default="private"),
    Column("created_by", String(64), nullable=False, server_default=""),
    Column("created_at", UtcDateTime, nullable=False),
)

blobs = Table(
    "blobs",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # Set while nobody links it and its deletion is intended (blob_lives.py).
    Column("condemned_at", UtcDateTime),
)

repository_blobs = Table(
    "repository_blobs",
    metadata,
    Column("repository_id", ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", ForeignKey("blobs.digest"), primary_key=True, index=True),
    Column("linked_at", UtcDateTime, nullable=False),
)

repository_grants = Table(
    "repository_grants",
    metadata,
    Column("repository_id", ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    # Ids of users, groups and tenants; none is used twice, so a grant to one that is gone means nothing.
    Column("kind", String(8), primary_key=True),
    Column("grantee", String(36), primary_key=True),
    Column("level", String(8), nullable=False),
    Column("expires_at", UtcDateTime),
    Column("granted_by", String(64), nullable=False),
    Column("granted_at", UtcDateTime, nullable=False),
    Index("ix_repository_grants_grantee", "grantee"),
)

manifests = Table(
    "manifests",
    metadata,
    Column("repository_id", ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", _DIGEST, primary_key=True, index=True),
    Column("media_type", String(255), nullable=False),
    Column("artifact_type", String(255)),
    Column("subject", _DIGEST),
    # JSON, and only of a manifest with a subject: what the referrers API shows of it without parsing the payload.
    Column("annotations", Text),
    Column("payload", LargeBinary, nullable=False),
    # What a pull moves besides manifests: config and layers; for an index the sum of its images.
    Column("total_size", BigInteger, nullable=False),
    Column("pushed_at", UtcDateTime, nullable=False),
    Column("pushed_by", String(36), nullable=False),
    # The referrers API: pages of one subject in order of digest, of all or of one type. Most manifests have no subject.
    Index(
        "ix_manifests_subject",
        "repository_id",
        "subject",
        "digest",
        sqlite_where=text("subject IS NOT NULL"),
        postgresql_where=text("subject IS NOT NULL"),
    ),
    Index(
        "ix_manifests_subject_type",
        "repository_id",
        "subject",
        "artifact_type",
        "digest",
        sqlite_where=text("subject IS NOT NULL"),
        postgresql_where=text("subject IS NOT NULL"),
    ),
)

manifest_references = Table(
    "manifest_references",
    metadata,
    Column("repository_id", String(36), primary_key=True),
    Column("manifest", _DIGEST, primary_key=True),
    Column("position", Integer, primary_key=True),
    # "blob" for config and layers, "foreign" for layers that are not held here, "manifest" for entries of an index.
    Column("kind", String(8), nullable=False),
    Column("digest", _DIGEST, nullable=False),
    Column("size", BigInteger, nullable=False),
    ForeignKeyConstraint(
        ["repository_id", "manifest"], ["manifests.repository_id", "manifests.digest"], ondelete="CASCADE"
    ),
    Index("ix_manifest_references_digest", "repository_id", "digest"),
)

tags = Table(
    "tags",
    metadata,
    Column("repository_id", ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("name", _TAG, primary_key=True),
    Column("digest", _DIGEST, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    ForeignKeyConstraint(["repository_id", "digest"], ["manifests.repository_id", "manifests.digest"]),
    Index("ix_tags_digest", "repository_id", "digest"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("repository", _NAME, nullable=False),
    Column("tenant_id", String(36), nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("started_at", UtcDateTime, nullable=False, index=True),
    # The row comes with the end of the upload and stays until it expires, so that a repeated last request gets its
    # answer.
    Column("digest", _DIGEST),
    Column("size", BigInteger),
)
