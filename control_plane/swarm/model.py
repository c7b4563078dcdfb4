"""What the swarm speaks of: contents, orders, and who holds how much of what; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from common.digest import Digest
from common.errors import Internal, NotFound, Unavailable


class NotInSwarm(NotFound):
    """The content is too small for BitTorrent; it travels by HTTP."""

    code = "not_in_swarm"


class MetainfoPending(Unavailable):
    """The content is being described; ask again."""

    code = "metainfo_pending"


class ContentCorrupted(Internal):
    """The stored bytes do not have their digest; nothing was published for them."""

    code = "content_corrupted"


@dataclass(frozen=True, slots=True)
class WantedContent:
    """Bytes named by digest, as a manifest's descriptor names them."""

    digest: Digest
    size_bytes: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Order:
    """A content that one IDC shall hold for one tenant."""

    tenant_id: str
    content: WantedContent


@dataclass(frozen=True, slots=True)
class StoredMetainfo:
    tenant_id: str
    digest: Digest
    info_hash: bytes
    piece_length: int
    encoded: bytes


@dataclass(frozen=True, slots=True)
class DescriptionFailure:
    detail: str
    failed_at: datetime


@dataclass(frozen=True, slots=True)
class HostContent:
    """What one host said last of one content. Payload bytes by source are cumulative for the content on that host."""

    host_id: str
    tenant_id: str
    digest: Digest
    size_bytes: int
    held_bytes: int
    verified: bool
    from_centre_bytes: int
    from_regional_bytes: int
    from_peers_bytes: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RegionalContent:
    """What one regional said last of one order. `phase`: waiting, fetching, held or failed."""

    regional_id: str
    tenant_id: str
    digest: Digest
    size_bytes: int
    held_bytes: int
    phase: str
    from_centre_bytes: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class EgressKey:
    """What payload is counted by. `idc`: the name, as content tokens carry it."""

    idc: str
    tenant_id: str
    digest: Digest
    size_bytes: int
