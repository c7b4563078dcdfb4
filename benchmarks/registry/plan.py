"""How much is measured, and how a figure is made of several runs."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.figures import Figure
from benchmarks.registry.servers import Target

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """`folder` is on the file system that is measured, for both servers."""

    folder: Path
    runs: int
    seconds: int
    blob_bytes: int
    crowd_bytes: int
    s3_bytes: int


def alternate(runs: int, targets: Sequence[Target], work: Callable[[Target], T]) -> dict[str, list[T]]:
    """Each target once in every run, in turn, so that what disturbs the machine disturbs them alike."""
    found: dict[str, list[T]] = {target.name: [] for target in targets}
    for _ in range(runs):
        for target in targets:
            found[target.name].append(work(target))
    return found


def compare(
    figure: str,
    unit: str,
    ours: Sequence[float],
    peer: Sequence[float],
    peer_name: str,
    *,
    goal: float,
    less_is_better: bool = False,
) -> None:
    """Print the medians and their ratio, which is above 1 if ours is better, and must be `goal` at least."""
    mine, other = statistics.median(ours), statistics.median(peer)
    ratio = (other / mine if mine else float("inf")) if less_is_better else mine / other
    Figure(
        "registry",
        figure,
        unit,
        round(mine, 4),
        round(other, 4),
        peer_name,
        round(ratio, 3),
        f"ratio >= {goal:g}",
        ratio >= goal,
    ).print()


def limit(figure: str, unit: str, ours: Sequence[float], *, most: float) -> None:
    """Print the median of what must not exceed a limit."""
    mine = statistics.median(ours)
    Figure("registry", figure, unit, round(mine, 4), None, None, None, f"<= {most:g}", mine <= most).print()


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
