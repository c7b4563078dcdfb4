"""What a process uses (proc(5)), and how often somebody commits to a SQLite file."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Usage:
    cpu_seconds: float
    rss_bytes: int
    peak_bytes: int


def usage(pid: int) -> Usage:
    """Of all threads of one process."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Usage(
        (int(stat[11]) + int(stat[12])) / _TICKS,
        int(status["VmRSS"].split()[0]) << 10,
        int(status["VmHWM"].split()[0]) << 10,
    )


class CommitWatch:
    """Counts the commits of other connections, by `PRAGMA data_version`: those within 20 ms count as one."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.times: list[float] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        connection = sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)
        before = None
        while not self._stopping.wait(_LOOK_SECONDS):
            (now,) = connection.execute("PRAGMA data_version").fetchone()
            if before is not None and now != before:
                self.times.append(time.monotonic())
            before = now
        connection.close()
