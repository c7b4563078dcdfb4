"""`make bench-fleet`: every figure, one JSON line each.

Environment: BENCH_AGENTS (1000), BENCH_STEADY (60 s), BENCH_HOLD (600 s, of the many), BENCH_FOLDER (/var/tmp),
BENCH_LOGS (a folder that keeps the services' logs), and BENCH_ONLY, one part of it:
steady, fanout, storm, five or ten.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from benchmarks.fleet import many, thousand
from benchmarks.fleet.plan import LimitTooLow, Plan

_PARTS: Mapping[str, Callable[[Plan], None]] = {
    "steady": thousand.steady,
    "fanout": thousand.fan_out,
    "storm": thousand.storm,
    "five": many.five,
    "ten": many.ten,
}


class BenchSettings(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    agents: int = Field(default=1000, validation_alias="BENCH_AGENTS", ge=1)
    steady: float = Field(default=60, validation_alias="BENCH_STEADY", gt=0)
    hold: float = Field(default=600, validation_alias="BENCH_HOLD", gt=0)
    only: str | None = Field(default=None, validation_alias="BENCH_ONLY")
    folder: Path = Field(default=Path("/var/tmp"), validation_alias="BENCH_FOLDER")
    logs: Path | None = Field(default=None, validation_alias="BENCH_LOGS")


def _keep_logs(folder: Path, kept: Path) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    for log in folder.rglob("*.log"):
        shutil.copy(log, kept / log.name)


def main() -> int:
    settings = BenchSettings()
    if settings.only is not None and settings.only not in _PARTS:
        print(f"BENCH_ONLY is one of {', '.join(_PARTS)}", file=sys.stderr)
        return 2
    for name, part in _PARTS.items():
        if settings.only in (None, name):
            with tempfile.TemporaryDirectory(prefix=f"ls-bench-{os.getpid()}-", dir=settings.folder) as folder:
                print(f"# {name}", file=sys.stderr)
                try:
                    part(Plan(Path(folder), settings.agents, settings.hold, settings.steady))
                except LimitTooLow as error:
                    print(error, file=sys.stderr)
                    return 2
                finally:
                    if settings.logs is not None:
                        _keep_logs(Path(folder), settings.logs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
