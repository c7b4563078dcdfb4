"""The data directory of one service of the edge: its lock, and the file that says it is ready.

Invariant: two processes never work on one directory, for each would take the other's partial files for its own.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from common.durable import write_file
from common.errors import Conflict, Unavailable

_READY = "ready.json"


class DataInUse(Conflict):
    code = "data_in_use"


class DataUnusable(Unavailable):
    code = "data_unusable"


@asynccontextmanager
async def locked(directory: Path, owner: str) -> AsyncIterator[None]:
    """Create it if need be and keep others out; the kernel lets go when the process ends, however it ends.

    `owner` is the service's name, for people. Raises `DataInUse` or `DataUnusable`.
    """
    descriptor = await asyncio.to_thread(_lock, directory, owner)
    try:
        yield
    finally:
        (directory / _READY).unlink(missing_ok=True)
        os.close(descriptor)


async def announce_ready(directory: Path, facts: Mapping[str, str | int | None]) -> None:
    """`ready.json`: this process works, under this pid; true until the directory is let go."""
    document = json.dumps({"pid": os.getpid(), **facts}).encode()
    await asyncio.to_thread(write_file, directory / _READY, document, 0o644)


def _lock(directory: Path, owner: str) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataUnusable(
            f"the data directory {directory} cannot be used: {error.strerror}",
            action="name a writable directory with --data",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise DataInUse(
            f"another {owner} works in {directory}", action="stop it, or name another directory with --data"
        ) from None
    # What an earlier process said of itself is not true of this one.
    (directory / _READY).unlink(missing_ok=True)
    return descriptor
