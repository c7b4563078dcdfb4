"""Who installs now and who waits: a bounded number at once, the others in the order in which they first asked; pure.

Invariant: a machine that goes on asking keeps its place; one that stopped asking holds up nobody.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

# A waiting machine asks every 15 s; one that missed eight times is switched off.
FORGET_SECONDS = 120.0
RETRY_SECONDS = 15
_FIRST_GUESS_SECONDS = 600.0
_KEPT = 32
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Place:
    """`number` from 1; `seconds`: about how long until its turn."""

    number: int
    seconds: float


class BootQueue:
    """`at_once` 0: no bound."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._waiting: dict[str, tuple[float, float]] = {}
        self._durations: deque[float] = deque(maxlen=_KEPT)

    def ask(self, machine_id: str, running: Collection[str], now: float) -> Place | None:
        """None: its turn. `running`: machines that install at this moment."""
        if not self._at_once or machine_id in running:
            self._waiting.pop(machine_id, None)
            return None
        self._forget(now)
        first, _ = self._waiting.get(machine_id, (now, now))
        if machine_id in self._waiting or len(self._waiting) < _MOST:
            self._waiting[machine_id] = (first, now)
        order = sorted(self._waiting, key=lambda each: (self._waiting[each][0], each))
        ahead = order.index(machine_id) if machine_id in self._waiting else len(order)
        free = self._at_once - len(running)
        if ahead < free:
            del self._waiting[machine_id]
            return None
        number = ahead - max(free, 0) + 1
        return Place(number, self._typical() * (number + self._at_once - 1) / self._at_once)

    def ended(self, seconds: float) -> None:
        """An installation took so long."""
        self._durations.append(max(seconds, 1.0))

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def _typical(self) -> float:
        return statistics.median(self._durations) if self._durations else _FIRST_GUESS_SECONDS

    def _forget(self, now: float) -> None:
        late = [each for each, (_, asked) in self._waiting.items() if now - asked > FORGET_SECONDS]
        for machine_id in late:
            del self._waiting[machine_id]
