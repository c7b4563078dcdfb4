"""What is wrong at this place now, gathered from those who notice it, for who looks: health, `check`, the centre.

Invariant: whoever notices something says it for as long as it lasts, so an alarm ends by itself when it is over; what
is told is bounded, whatever strangers send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from common.clock import Clock

# What `Condition` of regional.proto allows.
_MOST, _LONGEST = 32, 500
_LOOK_SECONDS = 5.0

Source = Callable[[], Iterable[str]]


class Alarms:
    """`changed` is called on the event loop when `present` says something else than before."""

    def __init__(self) -> None:
        self._sources: list[Source] = []
        self._known: tuple[str, ...] = ()
        self.changed: Callable[[], None] = lambda: None

    def watch(self, source: Source) -> None:
        """`source` says what is wrong now; it neither waits nor raises."""
        self._sources.append(source)

    def present(self) -> tuple[str, ...]:
        said = (text[:_LONGEST] for source in self._sources for text in source())
        return tuple(dict.fromkeys(said))[:_MOST]

    async def run(self, clock: Clock) -> None:
        """For the whole life of the process."""
        while True:
            present = self.present()
            if present != self._known:
                self._known = present
                self.changed()
            await clock.sleep(_LOOK_SECONDS)
