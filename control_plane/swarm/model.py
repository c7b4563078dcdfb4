"""What the swarm speaks of: contents, orders, and who holds how much of what; pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum

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


def list_id(tenant_id: str, contents: Sequence[WantedContent]) -> str:
    """Hex of 32 bytes that name these contents of that tenant, in whatever order they are given."""
    told = sorted(f"{one.digest} {one.size_bytes} {one.media_type}" for one in contents)
    return hashlib.sha256("\n".join([tenant_id, *told]).encode()).hexdigest()


class Effort(IntEnum):
    """How much fetching may disturb others. Of several who want one content the smallest counts."""

    ORDINARY = 0
    LOWER = 1  # gives way to everything ordinary
    PAUSED = 2  # stands still; what is there stays


@dataclass(frozen=True, slots=True)
class Order:
    """A content that one IDC shall hold for one tenant."""

    tenant_id: str
    content: WantedContent
    effort: Effort = Effort.ORDINARY


@dataclass(frozen=True, slots=True)
class StoredMetainfo:
    """`length` and `piece_length` in bytes; `pieces_root` and `info_hash` as in the metainfo that `encoded` is."""

    tenant_id: str
    digest: Digest
    info_hash: bytes
    piece_length: int
    encoded: bytes
    length: int
    pieces_root: bytes


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
    reused_bytes: int = 0


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


class OffenceKind(StrEnum):
    FALSE_BLOCK = "false_block"
    FALSE_METAINFO = "false_metainfo"


@dataclass(frozen=True, slots=True)
class Offence:
    """One host's word that somebody sent what nobody may send. `source`: the peer's address:port, or the base URL of a
    regional or the centre; `accused`: `host/<id>` or `regional/<id>` where the IDC's tracker knew it, else empty.
    """

    id: str
    accuser_id: str
    tenant_id: str
    digest: Digest
    kind: OffenceKind
    source: str
    accused: str
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class EgressKey:
    """What payload is counted by. `idc`: the name, as content tokens carry it."""

    idc: str
    tenant_id: str
    digest: Digest
    size_bytes: int
