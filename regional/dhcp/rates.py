"""How often one client and one line may ask; pure, time is an argument.

Invariant: what is kept is bounded: a flood of invented addresses costs an entry each for seconds, `_MOST` at most, and
the line's own limit holds whatever addresses it invents.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

_MOST = 65536


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` at once, then `each_second`. 0 a second: no limit."""

    each_second: float
    burst: float


UNLIMITED = Rate(0, 0)


class RateLimit:
    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        # Level and when it was so; least recently used first.
        self._levels: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def allows(self, who: bytes, now: float) -> bool:
        rate = self._rate
        if not rate.each_second:
            return True
        level, at = self._levels.pop(who, (rate.burst, now))
        level = min(rate.burst, level + rate.each_second * (now - at))
        passes = level >= 1.0
        self._levels[who] = (level - 1.0 if passes else level, now)
        if len(self._levels) > _MOST:
            self._levels.popitem(last=False)
        return passes
