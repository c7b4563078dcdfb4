"""Commands that a killed agent left running in its containers.

A command ends with the context that runs it; kill -9 leaves no context, and engines do not end a command whose
connection is lost. So each carries a mark in its environment, which what it starts inherits, and the next agent of this
host kills what bears its own mark before it begins another. Where the agent does not see the processes of its
containers (another PID namespace), or may not, nothing is found and nothing is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

MARK = "LONGSHORE_CHANNEL_HOST"


def kill_leftovers(host_id: str, processes: Path = Path("/proc")) -> int:
    """Blocking; how many were killed. Call it before the first channel is opened."""
    mark = f"{MARK}={host_id}".encode()
    killed = 0
    for entry in processes.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
                killed += 1
    return killed
