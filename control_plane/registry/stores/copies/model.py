"""A copy of a blob; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from common.digest import Digest


class CopyState(StrEnum):
    PRESENT = "present"
    DAMAGED = "damaged"  # moved aside in its store, or about to be
    MISSING = "missing"  # it was there


@dataclass(frozen=True, slots=True)
class BlobCopy:
    """`verified_at`: when all its bytes were last found to be right; None if nobody looked yet."""

    digest: Digest
    store: str
    size: int
    state: CopyState
    copied_at: datetime
    verified_at: datetime | None

    @property
    def good(self) -> bool:
        return self.state is CopyState.PRESENT and self.verified_at is not None


@dataclass(frozen=True, slots=True)
class BlobNeeds:
    """What the registry says of a blob. `public`: a public repository links it."""

    digest: Digest
    size: int
    linked: bool
    public: bool
    created_at: datetime
