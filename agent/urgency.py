"""Which pieces of a content somebody is waiting for, before they are here; pure.

Invariant: what one reader wants soon ends with that reader; the nearest pieces of all readers come before the second
nearest of any, so that no reader starves another.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import zip_longest


class Urgency:
    def __init__(self) -> None:
        self._windows: dict[Hashable, range] = {}

    def want(self, reader: Hashable, pieces: range) -> None:
        """The reader's next pieces, nearest first; instead of those it named before. An empty range: it has gone."""
        if pieces:
            self._windows[reader] = pieces
        else:
            self._windows.pop(reader, None)

    @property
    def pieces(self) -> tuple[int, ...]:
        """Most urgent first, each once."""
        nearest = (index for row in zip_longest(*self._windows.values()) for index in row if index is not None)
        return tuple(dict.fromkeys(nearest))
