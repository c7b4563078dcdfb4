"""How much is measured, and how several runs become a figure."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure

BENCHMARK = "swarm"


@dataclass(frozen=True)
class Plan:
    """`mebibytes` 0: each scenario's own size. `sides`: who runs beside us. `logs`: keep our services' logs there."""

    folder: Path
    runs: int
    mebibytes: int
    sides: tuple[str, ...]
    logs: Path | None

    def size(self, usual: int) -> int:
        """In MiB."""
        return self.mebibytes or usual


def least(figure: str, unit: str, ours: Sequence[float], goal: float, peer: Sequence[float], name: str | None) -> bool:
    """Print the median of what must reach `goal`; whether it does."""
    return _print(figure, unit, ours, peer, name, f">= {goal:g}", statistics.median(ours) >= goal, more_is_better=True)


def most(figure: str, unit: str, ours: Sequence[float], goal: float, peer: Sequence[float], name: str | None) -> bool:
    """Print the median of what must stay below `goal`; whether it does."""
    return _print(figure, unit, ours, peer, name, f"<= {goal:g}", statistics.median(ours) <= goal, more_is_better=False)


def faster(figure: str, unit: str, ours: Sequence[float], peer: Sequence[float], name: str) -> bool:
    """Print two medians of which ours must be the lower one; whether it is."""
    met = statistics.median(ours) < statistics.median(peer)
    return _print(figure, unit, ours, peer, name, "ratio > 1", met, more_is_better=False)


def told(figure: str, unit: str, ours: Sequence[float], peer: Sequence[float], name: str | None) -> bool:
    """Print medians of which nothing was promised."""
    return _print(figure, unit, ours, peer, name, "none: for information", True, more_is_better=False)


def _print(
    figure: str,
    unit: str,
    ours: Sequence[float],
    peer: Sequence[float],
    name: str | None,
    goal: str,
    met: bool,
    *,
    more_is_better: bool,
) -> bool:
    mine = statistics.median(ours)
    other = statistics.median(peer) if peer else None
    ratio = None
    if other is not None:
        above, below = (mine, other) if more_is_better else (other, mine)
        ratio = round(above / below, 3) if below else None
    shown = round(other, 4) if other is not None else None
    Figure(BENCHMARK, figure, unit, round(mine, 4), shown, name if peer else None, ratio, goal, met).print()
    return met


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
