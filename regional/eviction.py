"""What leaves the cache when something new needs its room: least recently used first; pure.

Invariant: what is ordered or on its way is never chosen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from common.digest import Digest


@dataclass(frozen=True, slots=True)
class Cached:
    """`pinned`: ordered, or being fetched."""

    digest: Digest
    size: int
    used_at: float
    pinned: bool


def victims(cached: Iterable[Cached], needed_bytes: int) -> tuple[Digest, ...] | None:
    """The fewest oldest contents that free `needed_bytes`; None if all that may go is not enough."""
    chosen: list[Digest] = []
    if needed_bytes <= 0:
        return ()
    for entry in sorted((entry for entry in cached if not entry.pinned), key=lambda entry: entry.used_at):
        chosen.append(entry.digest)
        needed_bytes -= entry.size
        if needed_bytes <= 0:
            return tuple(chosen)
    return None
