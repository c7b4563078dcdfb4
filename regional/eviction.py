"""What leaves the cache when something new needs its room: least recently used first; pure.

Invariant: what is ordered or on its way is never chosen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from common.digest import Digest
from common.water_marks import leaving


@dataclass(frozen=True, slots=True)
class Cached:
    """`pinned`: ordered, or being fetched."""

    digest: Digest
    size: int
    used_at: float
    pinned: bool


def oldest(cached: Iterable[Cached], needed_bytes: int) -> tuple[Digest, ...]:
    """The fewest oldest contents that free `needed_bytes`; all that may go if they are not enough."""
    loose = sorted((entry for entry in cached if not entry.pinned), key=lambda entry: entry.used_at)
    return tuple(entry.digest for entry in leaving(loose, lambda entry: entry.size, needed_bytes))


def victims(cached: Iterable[Cached], needed_bytes: int) -> tuple[Digest, ...] | None:
    """As `oldest`; None if all that may go is not enough."""
    entries = list(cached)
    if sum(entry.size for entry in entries if not entry.pinned) < needed_bytes:
        return None
    return oldest(entries, needed_bytes)
