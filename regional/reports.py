"""Which order states the centre has not acknowledged yet; pure.

Invariant: at any moment the centre has acknowledged the newest state of an order, or that order is dirty or in flight.
States are read when a batch is made, so that any number of changes becomes one report.
"""

from __future__ import annotations

from collections.abc import Iterable

from regional.model import ContentKey

# 500 reports of about 200 bytes are one message of 100 KB.
_BATCH = 500


class UnacknowledgedReports:
    def __init__(self) -> None:
        self._dirty: dict[ContentKey, None] = {}
        self._in_flight: tuple[ContentKey, ...] = ()
        self._sequence = 0

    def mark(self, key: ContentKey) -> None:
        """Its state changed since it was last read."""
        self._dirty[key] = None

    def begin_round(self, keys: Iterable[ContentKey]) -> None:
        """A new round: what was in flight may be lost, and the centre wants the whole picture."""
        self._in_flight = ()
        self._dirty = dict.fromkeys(keys)

    @property
    def due(self) -> bool:
        """Whether a batch can be made: one at a time is in flight."""
        return bool(self._dirty) and not self._in_flight

    def next_batch(self) -> tuple[int, tuple[ContentKey, ...]]:
        """Its sequence number and the orders it tells of; only when `due`."""
        self._in_flight = tuple(self._dirty)[:_BATCH]
        for key in self._in_flight:
            del self._dirty[key]
        self._sequence += 1
        return self._sequence, self._in_flight

    def acknowledged(self, sequence: int) -> None:
        """An acknowledgement of anything but the batch in flight is an echo of an earlier round."""
        if sequence == self._sequence:
            self._in_flight = ()
