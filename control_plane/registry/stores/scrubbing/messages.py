"""What the scrub announces, in the unit of work that records it. Digests are in their wire form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from control_plane.database.messages import Message


@dataclass(frozen=True, slots=True)
class CopyDamaged(Message):
    """A copy is not the blob (`finding`: wrong, cut, missing); it is not served any more."""

    topic: ClassVar[str] = "registry.copy_damaged"
    digest: str
    size: int
    store: str
    finding: str


@dataclass(frozen=True, slots=True)
class CopyHealed(Message):
    """The copy is good again; `source` is a store, or what else had the bytes."""

    topic: ClassVar[str] = "registry.copy_healed"
    digest: str
    size: int
    store: str
    source: str


@dataclass(frozen=True, slots=True)
class BlobLost(Message):
    """Nobody has the bytes of a blob that these repositories (the first of them) link. Pushing it again heals it."""

    topic: ClassVar[str] = "registry.blob_lost"
    digest: str
    size: int
    repositories: list[str]
