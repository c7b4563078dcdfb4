"""What is shown of the stores; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Tallied:
    """Copies in one state."""

    copies: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class StoreOverview:
    """`reach`: up, away, or lost (away for longer than one waits). Room None: not known."""

    name: str
    tier: str
    location: str
    reach: str
    free_bytes: int | None
    present: Tallied
    damaged: Tallied
    missing: Tallied


@dataclass(frozen=True, slots=True)
class ScrubOverview:
    """`oldest`: when the copy was read that waits longest; None if there is none. `short`: blobs with fewer good
    copies than their class asks for. `possible_copies`: a blob cannot have more, for so many stores there are.
    """

    every_days: float
    copies: int
    due: int
    oldest: datetime | None
    damaged: int
    missing: int
    lost: int
    short: int
    wanted_copies: int
    wanted_public_copies: int
    possible_copies: int
