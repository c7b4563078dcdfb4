"""`make bench-registry`: every figure, one JSON line each. Needs wrk, docker-registry and nginx.

Environment: BENCH_RUNS (3), BENCH_SECONDS (4, of each reading load), BENCH_BLOB_MIB (256), BENCH_CROWD_MIB (64, what
each of 64 clients pushes), BENCH_S3_MIB (5120), BENCH_FOLDER (/var/tmp), and BENCH_ONLY, one part of it: reading,
pushing, crowd, lists or s3.
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

from benchmarks.registry import crowd, lists, pushes, reading, s3
from benchmarks.registry.plan import Plan

_PARTS: Mapping[str, Callable[[Plan], None]] = {
    "reading": reading.measure,
    "pushing": pushes.measure,
    "crowd": crowd.measure,
    "lists": lists.measure,
    "s3": s3.measure,
}


class BenchSettings(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    runs: int = Field(default=3, validation_alias="BENCH_RUNS", ge=1)
    seconds: int = Field(default=4, validation_alias="BENCH_SECONDS", ge=1)
    blob_mib: int = Field(default=256, validation_alias="BENCH_BLOB_MIB", ge=1)
    crowd_mib: int = Field(default=64, validation_alias="BENCH_CROWD_MIB", ge=1)
    s3_mib: int = Field(default=5120, validation_alias="BENCH_S3_MIB", ge=1)
    only: str | None = Field(default=None, validation_alias="BENCH_ONLY")
    folder: Path = Field(default=Path("/var/tmp"), validation_alias="BENCH_FOLDER")


def main() -> int:
    settings = BenchSettings()
    missing = [name for name in ("wrk", "docker-registry", "nginx") if shutil.which(name) is None]
    if missing:
        print(f"needs {', '.join(missing)}: apt-get install wrk docker-registry nginx-light", file=sys.stderr)
        return 2
    if settings.only is not None and settings.only not in _PARTS:
        print(f"BENCH_ONLY is one of {', '.join(_PARTS)}", file=sys.stderr)
        return 2
    for name, part in _PARTS.items():
        if settings.only in (None, name):
            with tempfile.TemporaryDirectory(prefix=f"ls-bench-{os.getpid()}-", dir=settings.folder) as folder:
                print(f"# {name}", file=sys.stderr)
                part(
                    Plan(
                        Path(folder),
                        settings.runs,
                        settings.seconds,
                        settings.blob_mib << 20,
                        settings.crowd_mib << 20,
                        settings.s3_mib << 20,
                    )
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
