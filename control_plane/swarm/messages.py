"""What the swarm announces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from control_plane.database.messages import Message


@dataclass(frozen=True, slots=True)
class ContentDescribed(Message):
    """The metainfo of a tenant's content can be had from now on."""

    topic: ClassVar[str] = "swarm.content_described"
    tenant_id: str
    digest: str
    info_hash: str


@dataclass(frozen=True, slots=True)
class ContentDamaged(Message):
    """The centre's copy of a content is not what its digest says; it must be pushed again."""

    topic: ClassVar[str] = "swarm.content_damaged"
    tenant_id: str
    digest: str
    detail: str


@dataclass(frozen=True, slots=True)
class ReturnWanted(Message):
    """Somebody at the edge holds what the centre lost, and is asked to give it back (swarm/healing.py)."""

    topic: ClassVar[str] = "swarm.return_wanted"
    holder_kind: str
    holder_id: str
    request_id: str
    digest: str
    size_bytes: int
