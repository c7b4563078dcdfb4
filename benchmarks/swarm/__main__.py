"""`make bench-swarm`: every figure, one JSON line each. Needs root, iproute2, nginx, curl, aria2, transmission-cli.

Environment: BENCH_RUNS (5), BENCH_ONLY (one scenario), BENCH_MIB (0: each scenario's own size), BENCH_SIDES
(aria2,transmission,http; "none": we alone), BENCH_FOLDER (/dev/shm), BENCH_LOGS (keep our services' logs there).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from benchmarks.swarm import churn, first_byte, layers, leftovers, outsider, poison, spreads
from benchmarks.swarm.outside import missing_programs
from benchmarks.swarm.plan import Plan, note
from common.errors import Failure

_SCENARIOS: Mapping[str, Callable[[Plan], bool]] = {
    "flat8": partial(spreads.measure, spreads.FLAT8),
    "flat16": partial(spreads.measure, spreads.FLAT16),
    "two-idcs": partial(spreads.measure, spreads.TWO_IDCS),
    "churn": churn.measure,
    "layers": layers.measure,
    "first-byte": first_byte.measure,
    "poison": poison.measure,
    "outsider": outsider.measure,
}


class BenchSettings(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    runs: int = Field(default=5, validation_alias="BENCH_RUNS", ge=1)
    mebibytes: int = Field(default=0, validation_alias="BENCH_MIB", ge=0)
    only: str | None = Field(default=None, validation_alias="BENCH_ONLY")
    sides: str = Field(default=",".join(spreads.SIDES), validation_alias="BENCH_SIDES")
    folder: Path = Field(default=Path("/dev/shm"), validation_alias="BENCH_FOLDER")
    logs: Path | None = Field(default=None, validation_alias="BENCH_LOGS")


def main() -> int:
    settings = BenchSettings()
    if (reason := _why_not(settings)) is not None:
        note(reason)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if swept := leftovers.sweep():
        note(f"removed what killed runs left: {', '.join(swept)}")
    met = True
    for name, scenario in _SCENARIOS.items():
        if settings.only in (None, name):
            note(f"# {name}")
            with leftovers.recorded(settings.folder / f"ls-swarm-{os.getpid()}") as folder:
                met &= _measured(
                    scenario, Plan(folder, settings.runs, settings.mebibytes, _sides(settings), settings.logs)
                )
    return 0 if met else 1


def _measured(scenario: Callable[[Plan], bool], plan: Plan) -> bool:
    try:
        return scenario(plan)
    except Failure as failure:
        note(f"FAILED: {failure}")
        return False


def _why_not(settings: BenchSettings) -> str | None:
    missing = missing_programs()
    if os.geteuid() != 0 or missing:
        return f"needs root, and {', '.join(missing)}: python -m tests.engines.install swarm"
    if settings.only is not None and settings.only not in _SCENARIOS:
        return f"BENCH_ONLY is one of {', '.join(_SCENARIOS)}"
    unknown = set(_sides(settings)) - spreads.SIDES.keys()
    return f"BENCH_SIDES names some of {', '.join(spreads.SIDES)}, or is none" if unknown else None


def _sides(settings: BenchSettings) -> tuple[str, ...]:
    return tuple(side for side in settings.sides.split(",") if side not in ("", "none"))


if __name__ == "__main__":
    sys.exit(main())
