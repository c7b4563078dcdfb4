"""Which machines were seen, for the centre: each once in a while, and again when it says something new of itself; pure.

Invariant: a flood of made-up addresses costs a bounded memory and a bounded number of reports a second.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import fields, replace

from regional.boot_targets import SELF_CHECK_MAC
from regional.machines.model import Sighting

_AGAIN_SECONDS = 6 * 3600.0
_SOONEST_SECONDS = 5.0
_REMEMBERED = 10_000
_A_SECOND = 10.0
_AT_ONCE = 200.0


class Sightings:
    def __init__(self) -> None:
        self._seen: OrderedDict[str, tuple[Sighting, float]] = OrderedDict()
        self._said: dict[str, Sighting] = {}
        self._room, self._at = _AT_ONCE, 0.0

    def worth_saying(self, seen: Sighting, now: float) -> Sighting | None:
        """With everything that is known of it by now; None: nothing new. `now`: any clock of seconds."""
        if seen.mac == SELF_CHECK_MAC:
            return None
        before, said_at = self._seen.get(seen.mac, (None, float("-inf")))
        whole = _joined(before, seen) if before is not None else seen
        said = self._said.get(seen.mac)
        new = said is None or _joined(said, replace(whole, by=said.by)) != said
        due = now - said_at > (_SOONEST_SECONDS if new else _AGAIN_SECONDS)
        if due and self._take(now):
            said_at, self._said[seen.mac] = now, whole
        else:
            due = False
        self._seen[seen.mac] = (whole, said_at)
        self._seen.move_to_end(seen.mac)
        if len(self._seen) > _REMEMBERED:
            gone, _ = self._seen.popitem(last=False)
            self._said.pop(gone, None)
        return whole if due else None

    def _take(self, now: float) -> bool:
        self._room = min(_AT_ONCE, self._room + max(0.0, now - self._at) * _A_SECOND)
        self._at = now
        if self._room < 1:
            return False
        self._room -= 1
        return True


def _joined(before: Sighting, after: Sighting) -> Sighting:
    """What was said before and is not said now still holds."""
    known = {each.name: getattr(after, each.name) or getattr(before, each.name) for each in fields(Sighting)}
    return Sighting(**known)
