"""Where engines keep their state: short paths, open to other users, removed afterwards, even those of a run that was
ended by SIGKILL (the next run sweeps them).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.engines import EngineCannotRun

_PREFIX = "lse"
# Unix socket paths end at 107 bytes and engines append up to 50 of their own.
_LONGEST = 56
# What engines keep that need not outlive them: no test waits for a disk that others use. Where it is small (64 MiB in a
# container) the disk has to do.
_MEMORY = Path("/dev/shm")
_MEMORY_BYTES = 2 << 30


@contextlib.contextmanager
def scratch_directory(name: str, *, in_memory: bool = False) -> Iterator[Path]:
    """A directory whose parents every user may search (PostgreSQL runs as another user)."""
    parent = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())  # TMPDIR may be long or private
    if in_memory and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES:
        parent = _MEMORY
    sweep(parent)
    path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{name}-{os.getpid()}-", dir=parent))
    if len(str(path)) > _LONGEST:
        path.rmdir()
        raise EngineCannotRun(f"the scratch path is too long for unix sockets: {path}")
    path.chmod(0o755)
    try:
        yield path
    finally:
        remove(path)


def sweep(parent: Path) -> None:
    """Remove what runs that are no more have left."""
    for path in parent.glob(f"{_PREFIX}-*-*-*"):
        owner = path.name.split("-")[-2]
        if owner.isdigit() and not is_running(int(owner)):
            remove(path)


def remove(path: Path) -> None:
    """Unmount what is mounted beneath (a killed dockerd leaves overlays), innermost first, then delete."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{path}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
    shutil.rmtree(path, ignore_errors=True)


def is_running(pid: int) -> bool:
    """Alive and not a zombie: where process 1 reaps late, a killed orphan stays a zombie for seconds, and signal 0
    calls it alive.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return False
    return state not in ("Z", "X", "")
