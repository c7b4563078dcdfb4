"""What one client repeats without end is recorded a few times and then counted: a guesser must not be able to fill the
disk through the trail that watches it. Pure; time is an argument.

Invariant: nothing is left out uncounted. What was withheld in a window is told with the last of it, when the window has
ended.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Window(Generic[T]):
    until: float
    admitted: int
    withheld: int
    last: T | None


class Flood(Generic[T]):
    """Admits `limit` items a key in `seconds`; of at most `keys` keys at once, those beyond share one."""

    def __init__(self, limit: int = 20, seconds: float = 60.0, keys: int = 10_000) -> None:
        self._limit = limit
        self._seconds = seconds
        self._keys = keys
        self._windows: dict[Hashable, _Window[T]] = {}

    @property
    def full(self) -> bool:
        """Whether a new key would share a window with others."""
        return len(self._windows) >= self._keys

    def admits(self, key: Hashable, item: T, now: float) -> bool:
        window = self._windows.get(key)
        if window is None and len(self._windows) >= self._keys:
            key = None
            window = self._windows.get(key)
        # A window that withheld something stays until `ended` has told of it.
        if window is None or (now >= window.until and not window.withheld):
            window = self._windows[key] = _Window(now + self._seconds, 0, 0, None)
        if window.admitted < self._limit:
            window.admitted += 1
            return True
        window.withheld, window.last = window.withheld + 1, item
        return False

    def ended(self, now: float) -> list[tuple[T, int]]:
        """The last item and the number withheld, of each window that has ended since; they are forgotten."""
        over = [key for key, window in self._windows.items() if now >= window.until]
        told = [self._windows.pop(key) for key in over]
        return [(window.last, window.withheld) for window in told if window.last is not None]
