"""What one run is to do, and how its figures are told."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure

# Databases, logs, pipes, listeners: beside one descriptor an agent.
_OTHER_FILES = 1_000


@dataclass(frozen=True)
class Plan:
    """`hold_seconds`: how long many agents are held. `steady_seconds`: over which 1,000 are measured."""

    folder: Path
    agents: int
    hold_seconds: float
    steady_seconds: float


class LimitTooLow(Exception):
    """This process may not open as many files as there are agents."""


def raise_file_limit(agents: int) -> None:
    """Of this process and those it starts. Raises `LimitTooLow`."""
    wanted = agents + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    except (ValueError, PermissionError) as error:
        raise LimitTooLow(
            f"{agents} agents in one process need {wanted} open files, {hard} are allowed: raise `ulimit -Hn` or run "
            "as root"
        ) from error


def limit(figure: str, unit: str, ours: float, *, most: float) -> None:
    """A promise of our own, compared with nobody."""
    ratio = most / ours if ours else None
    Figure(
        "fleet", figure, unit, round(ours, 3), None, None, ratio and round(ratio, 2), f"<= {most:g}", ours <= most
    ).print()


def note(text: str) -> None:
    print(f"# {text}", file=sys.stderr, flush=True)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1)] if ordered else float("inf")
