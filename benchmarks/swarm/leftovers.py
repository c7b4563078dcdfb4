"""What a run that was killed left behind: namespaces and a folder in memory. Only our own are touched.

Each run writes down its process id, the moment that process was started, and its folder, before it makes anything.
Invariant: things are removed only if such a record names them and its process is gone; a process id that was given to
somebody else is told by the moment of start.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_RECORDS = Path("/run/longshore-bench-swarm")


def prefix(pid: int | None = None) -> str:
    """Of every namespace of that process, by default of ours."""
    return f"lsw{pid or os.getpid()}-"


@contextlib.contextmanager
def recorded(folder: Path) -> Iterator[Path]:
    """Make `folder` for this run, written down; both are gone afterwards."""
    _RECORDS.mkdir(parents=True, exist_ok=True)
    record = _RECORDS / f"{os.getpid()}.json"
    record.write_text(json.dumps({"pid": os.getpid(), "started": started_at(os.getpid()), "folder": str(folder)}))
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        remove_namespaces(prefix())
        shutil.rmtree(folder, ignore_errors=True)
        record.unlink(missing_ok=True)


def sweep() -> list[str]:
    """Remove what killed runs left; their process ids."""
    swept = []
    for record in sorted(_RECORDS.glob("*.json")):
        written = json.loads(record.read_text())
        pid = int(written["pid"])
        if started_at(pid) == written["started"]:
            continue
        remove_namespaces(prefix(pid))
        shutil.rmtree(written["folder"], ignore_errors=True)
        record.unlink(missing_ok=True)
        swept.append(str(pid))
    return swept


def remove_namespaces(beginning: str) -> None:
    """End what runs in the namespaces whose name begins so, and remove them."""
    for pid in pids_within(beginning):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while pids_within(beginning) and time.monotonic() < deadline:
        time.sleep(0.02)
    for name in _namespaces(beginning):
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def pids_within(beginning: str) -> set[int]:
    """Of what runs in the namespaces whose name begins so."""
    return {pid for name in _namespaces(beginning) for pid in _within(name)}


def _namespaces(beginning: str) -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    return [line.split()[0] for line in listed.splitlines() if line.startswith(beginning)]


def _within(namespace: str) -> set[int]:
    listed = subprocess.run(["ip", "netns", "pids", namespace], check=False, capture_output=True, text=True).stdout
    return {int(pid) for pid in listed.split()}


def started_at(pid: int) -> int | None:
    """Clock ticks from boot to the start of that process (proc(5), field 22 of stat); None: there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError):
        return None
