"""`make bench-boot`: every figure, one JSON line each. Needs root, cc, Debian's dnsmasq-base, tftpd-hpa, nginx-light,
kea-admin and wrk.

Environment: BENCH_RUNS (3), BENCH_FOLDER (/var/tmp), and BENCH_ONLY, one part of it: http, dhcp, tftp.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from benchmarks.boot import dhcp, http, tftp
from benchmarks.boot.servers import ServerCannotRun

_PARTS: Mapping[str, Callable[[Path, int], None]] = {
    # TFTP is last: it leaves the network that the others use.
    "http": http.measure,
    "dhcp": dhcp.measure,
    "tftp": tftp.measure,
}


class BenchSettings(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    runs: int = Field(default=3, validation_alias="BENCH_RUNS", ge=1)
    only: str | None = Field(default=None, validation_alias="BENCH_ONLY")
    folder: Path = Field(default=Path("/var/tmp"), validation_alias="BENCH_FOLDER")


def main() -> int:
    settings = BenchSettings()
    if os.geteuid() != 0:
        print("needs root: the servers run on port 69 in a network of their own", file=sys.stderr)
        return 2
    if settings.only is not None and settings.only not in _PARTS:
        print(f"BENCH_ONLY is one of {', '.join(_PARTS)}", file=sys.stderr)
        return 2
    for name, part in _PARTS.items():
        if settings.only in (None, name):
            with tempfile.TemporaryDirectory(prefix=f"ls-bench-{os.getpid()}-", dir=settings.folder) as folder:
                print(f"# {name}", file=sys.stderr)
                try:
                    part(Path(folder), settings.runs)
                except ServerCannotRun as why:
                    print(f"{name}: {why}", file=sys.stderr)
                    return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
