"""Delays between tries: capped, exponential, with full jitter, so that a crowd that failed together does not return
together.

Pure: the source of randomness is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Backoff:
    """`next_delay()` gives seconds to wait: uniform in (0, min(cap, initial * 2**failures)], never under `floor`.

    `random` returns a float in [0, 1). `reset()` after a success that lasted.
    """

    random: Callable[[], float]
    initial_seconds: float = 0.5
    cap_seconds: float = 60.0
    floor_seconds: float = 0.05
    failures: int = 0

    def next_delay(self) -> float:
        # 2**30 s is beyond every cap; bounding the exponent keeps the float finite however long an outage lasts.
        ceiling = min(self.cap_seconds, self.initial_seconds * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return max(self.floor_seconds, ceiling * self.random())

    def reset(self) -> None:
        self.failures = 0


def jittered(period_seconds: float, share: float, random: Callable[[], float]) -> float:
    """`period_seconds` plus or minus `share` of it, uniformly: for periodic work of many processes."""
    return period_seconds * (1 + share * (2 * random() - 1))
