"""Desired state that travels as one full set, then as changes chained by generation; pure.

Invariant: the receiver holds exactly the set that the sender had at `generation`, or knows that it does not. A change
that does not apply to the generation held is a gap (`Stale`), and the receiver asks for a full set instead of guessing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from common.errors import Stale

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Changes(Generic[K, V]):
    applies_to: int
    results_in: int
    changed: Mapping[K, V]
    removed: frozenset[K]


def changes_between(old: Mapping[K, V], old_generation: int, new: Mapping[K, V], new_generation: int) -> Changes[K, V]:
    """What a receiver of `old` needs to hold `new`."""
    changed = {key: value for key, value in new.items() if (held := old.get(key)) is not value and held != value}
    return Changes(old_generation, new_generation, changed, frozenset(old.keys() - new.keys()))


@dataclass
class HeldSet(Generic[K, V]):
    """The receiver's side."""

    generation: int = 0
    items: dict[K, V] = field(default_factory=dict)

    def replace(self, generation: int, items: Mapping[K, V]) -> None:
        self.generation, self.items = generation, dict(items)

    def apply(self, applies_to: int, results_in: int, changed: Mapping[K, V], removed: Iterable[K]) -> None:
        """Raises `Stale` on a gap and then changes nothing."""
        if applies_to != self.generation:
            raise Stale(
                f"the change applies to generation {applies_to}, generation {self.generation} is held",
                action="ask for the full set",
            )
        for key in removed:
            self.items.pop(key, None)
        self.items.update(changed)
        self.generation = results_in
