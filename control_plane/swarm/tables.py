"""Rows of the swarm. Digests are kept in their wire form; bytes are 64-bit counters.

`wants` are the reasons of orders: an owner wants a list of contents in an IDC, in one row however long the list is.
`wanted_contents` are those lists, once for each IDC, there exactly as long as somebody wants them; an order of an IDC
is the distinct (tenant, digest) of its lists. Both change only under the lock of the IDC (`store`).

`metainfo` holds finished descriptions only; a content that could not be described has a row in `metainfo_failures`
until it is described.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, SmallInteger, String, Table, Text

from control_plane.database.schema import UtcDateTime, metadata

_ID = String(36)
_DIGEST = String(140)

wants = Table(
    "wants",
    metadata,
    Column("owner_id", _ID, primary_key=True),
    Column("idc_id", _ID, primary_key=True),
    # `model.list_id`.
    Column("list_id", String(64), primary_key=True),
    # `model.Effort`.
    Column("effort", SmallInteger, nullable=False, default=0, server_default="0"),
    # The smallest effort for a list is the first row of its part of the index.
    Index("ix_wants_idc_id_list_id_effort", "idc_id", "list_id", "effort"),
)

wanted_contents = Table(
    "wanted_contents",
    metadata,
    Column("idc_id", _ID, primary_key=True),
    Column("list_id", String(64), primary_key=True),
    Column("digest", _DIGEST, primary_key=True),
    Column("tenant_id", _ID, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("media_type", String(255), nullable=False),
    Index("ix_wanted_contents_tenant_id_digest_idc_id", "tenant_id", "digest", "idc_id"),
    Index("ix_wanted_contents_digest", "digest"),
)

metainfo = Table(
    "metainfo",
    metadata,
    Column("tenant_id", _ID, primary_key=True),
    Column("digest", _DIGEST, primary_key=True),
    Column("info_hash", LargeBinary, nullable=False),
    Column("piece_length", BigInteger, nullable=False),
    Column("encoded", LargeBinary, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("pieces_root", LargeBinary, nullable=False),
    Column("described_at", UtcDateTime, nullable=False),
    Index("ix_metainfo_digest", "digest"),
)

metainfo_failures = Table(
    "metainfo_failures",
    metadata,
    Column("tenant_id", _ID, primary_key=True),
    Column("digest", _DIGEST, primary_key=True),
    Column("detail", Text, nullable=False),
    Column("failed_at", UtcDateTime, nullable=False),
)

# The same for all tenants, as it says no more than the bytes; it is shown only to who may read them.
block_maps = Table(
    "block_maps",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    Column("encoded", LargeBinary, nullable=False),
)

# `sequence` makes two replicas that both find no key at first start agree on one: the second insert does nothing.
content_keys = Table(
    "content_keys",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("key_id", _ID, nullable=False, unique=True),
    Column("sealed_private_pem", LargeBinary, nullable=False),
    Column("public_pem", LargeBinary, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("signs_from", UtcDateTime, nullable=False),
)

swarm_secrets = Table(
    "swarm_secrets",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)

# One for each tenant, for good: its certificate is part of the tenant's info-hashes.
swarm_authorities = Table(
    "swarm_authorities",
    metadata,
    Column("tenant_id", _ID, primary_key=True),
    Column("certificate_pem", LargeBinary, nullable=False),
    Column("sealed_key_pem", LargeBinary, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

host_contents = Table(
    "host_contents",
    metadata,
    Column("host_id", _ID, primary_key=True),
    Column("tenant_id", _ID, primary_key=True),
    Column("digest", _DIGEST, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("held_bytes", BigInteger, nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("from_centre_bytes", BigInteger, nullable=False),
    Column("from_regional_bytes", BigInteger, nullable=False),
    Column("from_peers_bytes", BigInteger, nullable=False),
    Column("reused_bytes", BigInteger, nullable=False),
    Column("detail", Text, nullable=False),
    Column("reported_at", UtcDateTime, nullable=False),
    Index("ix_host_contents_digest", "digest"),
)

regional_contents = Table(
    "regional_contents",
    metadata,
    Column("regional_id", _ID, primary_key=True),
    Column("tenant_id", _ID, primary_key=True),
    Column("digest", _DIGEST, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("held_bytes", BigInteger, nullable=False),
    Column("phase", String(16), nullable=False),
    Column("from_centre_bytes", BigInteger, nullable=False),
    Column("detail", Text, nullable=False),
    Column("reported_at", UtcDateTime, nullable=False),
    Index("ix_regional_contents_tenant_id_digest", "tenant_id", "digest"),
)

# The tenant is part of the key so that a tenant is shown its own share and nobody else's.
egress = Table(
    "egress",
    metadata,
    Column("idc_id", _ID, primary_key=True),
    Column("tenant_id", _ID, primary_key=True),
    Column("digest", _DIGEST, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)

# Who sent what nobody may send, as hosts say. Neither is a fact that could be checked here, so `accuser_id` (a host) is
# authenticated, and the source and whom it belongs to are hearsay. Bounded for each accuser and by age.
swarm_offences = Table(
    "swarm_offences",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("accuser_id", _ID, nullable=False),
    Column("tenant_id", _ID, nullable=False),
    Column("digest", _DIGEST, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("source", String(255), nullable=False),
    Column("accused", String(64), nullable=False),
    Column("occurred_at", UtcDateTime, nullable=False),
    Column("reported_at", UtcDateTime, nullable=False),
    Index("ix_swarm_offences_accuser_id_reported_at", "accuser_id", "reported_at"),
    Index("ix_swarm_offences_reported_at", "reported_at"),
)

# Rows lapse after minutes; see swarm/healing.py.
content_returns = Table(
    "content_returns",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("holder_kind", String(16), nullable=False),
    Column("holder_id", _ID, nullable=False),
    Column("digest", _DIGEST, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
)
