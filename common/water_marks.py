"""How full a cache may become, and how far it is emptied then; pure.

Between the low and the high mark nothing leaves. Above the high one the least recently used leaves in the background
until the low one is reached, so that a fetch seldom has to wait for room. The limit itself is never crossed. Bytes are
the cache's own count of what it holds and has reserved, not the file system's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from common.errors import Invalid

T = TypeVar("T")


class WaterMarksInvalid(Invalid):
    code = "water_marks_invalid"


@dataclass(frozen=True, slots=True)
class WaterMarks:
    """`limit_bytes` 0: as much as the disk takes; then nothing leaves in the background. The marks are percents."""

    limit_bytes: int = 0
    high_percent: float = 90.0
    low_percent: float = 80.0

    def __post_init__(self) -> None:
        if self.limit_bytes < 0 or not 0 < self.low_percent <= self.high_percent <= 100:
            raise WaterMarksInvalid(
                f"{self.low_percent:g} % to {self.high_percent:g} % of {self.limit_bytes} bytes are no water marks",
                action="let the low mark be at most the high one, and both between 0 and 100",
            )

    def over_limit(self, used_bytes: int) -> int:
        """How many of `used_bytes` cannot be."""
        return max(used_bytes - self.limit_bytes, 0) if self.limit_bytes else 0

    def surplus(self, used_bytes: int, pinned_bytes: int = 0) -> int:
        """How much is to leave now, in the background. What may not leave takes its room from the limit: the marks are
        percents of what it leaves over, so that a cache full of pins does not throw out each newcomer at once.
        """
        room, loose_bytes = max(self.limit_bytes - pinned_bytes, 0), used_bytes - pinned_bytes
        if not self.limit_bytes or loose_bytes <= room * self.high_percent / 100:
            return 0
        return loose_bytes - int(room * self.low_percent / 100)


def limit_of(limit_bytes: int, limit_percent: float, disk_bytes: int) -> int:
    """The narrower of a number of bytes and a share of the disk; 0 means that there is no such limit."""
    share = int(disk_bytes * limit_percent / 100)
    return min(limit_bytes, share) if limit_bytes and share else limit_bytes or share


def leaving(oldest_first: Iterable[T], size: Callable[[T], int], needed_bytes: int) -> list[T]:
    """The fewest of the oldest that free `needed_bytes`; all of them if they are not enough."""
    chosen: list[T] = []
    for one in oldest_first:
        if needed_bytes <= 0:
            break
        chosen.append(one)
        needed_bytes -= size(one)
    return chosen
