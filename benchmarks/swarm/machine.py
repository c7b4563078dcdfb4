"""How busy the machine was, and how much of that a set of processes was (proc(5)).

Invariant: a measurement on a machine without time to spare is told apart from one that may be believed: links that
are emulated by a processor that is late are slower than their rate.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
# Above it the emulated links do not keep their rate.
SATURATED = 0.90


@dataclass(frozen=True)
class Load:
    """`busy`: share of all processors' time that was used, stolen time among it; `own_seconds`: by our processes."""

    busy: float
    own_seconds: float

    @property
    def saturated(self) -> bool:
        return self.busy > SATURATED


class Meter:
    """Starts when made."""

    def __init__(self, sessions: Collection[int]) -> None:
        self._sessions = frozenset(sessions)
        self._before = _machine()
        self._own_before = cpu_seconds(self._sessions)

    def read(self, sessions: Collection[int] = ()) -> Load:
        """`sessions`: of processes that were started after the beginning."""
        idle, total = (now - before for now, before in zip(_machine(), self._before, strict=True))
        own = cpu_seconds(self._sessions | frozenset(sessions)) - self._own_before
        return Load(1 - idle / total if total else 0.0, own)


def cpu_seconds(sessions: Collection[int]) -> float:
    """Of all processes of these sessions, and of their children that ended."""
    ticks = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) in sessions:
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS


def _machine() -> tuple[int, int]:
    """(idle, total) in ticks."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)
