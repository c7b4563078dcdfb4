"""The one shape of a result: a JSON line on standard output."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """`ratio` above 1: ours is better. `goal` says in words what was promised, `met` whether it was kept."""

    benchmark: str
    figure: str
    unit: str
    ours: float
    peer: float | None
    peer_name: str | None
    ratio: float | None
    goal: str
    met: bool

    def print(self) -> None:
        print(json.dumps(asdict(self)), flush=True)
