"""A worker killed (kill -9) at any step of copying, dropping and healing: nothing is lost, the next one goes on.

The worker is a process of its own, over stores that count their calls and end the process ahead of the n-th.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from common.clock import ManualClock
from common.digest import Digest
from control_plane.database import Database
from tests.conformance.blob_store import content, whole
from tests.control_plane.registry.pushing import push_blob
from tests.control_plane.registry.stores.sites import Site

DATA = content(70_000)
DIGEST = Digest.of(DATA)
DAY = 86_400.0

_WORKER = """
import asyncio, os, pathlib, signal, sys
from datetime import timedelta
from common.clock import ManualClock
from control_plane.blobs.disk import Disk
from control_plane.database import Database
from tests.control_plane.registry.stores.sites import Site

class Ending:
    def __init__(self, left):
        self.left = left

    def __call__(self):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)

async def main(step):
    clock = ManualClock()
    clock.tick(float(sys.argv[3]))
    database = Database(sys.argv[2], clock)
    site, ending = Site(database, clock, pathlib.Path(sys.argv[1])), Ending(step)
    for disk in site.disks.values():
        for name in ("stat", "create_upload", "append", "upload_size", "commit", "delete", "quarantine"):
            def wrapped(*given, call=getattr(disk, name), **named):
                ending()
                return call(*given, **named)
            setattr(disk, name, wrapped)
    transaction = database.transaction

    def counted():
        ending()
        return transaction()

    database.transaction = counted
    if sys.argv[4] == "place":
        await site.parts.placement.place()
    else:
        await site.parts.scrubber.run()
    await site.stores.close()
    await database.close()

# One process for each step, made from this one, which has everything imported.
for line in sys.stdin:
    child = os.fork()
    if not child:
        asyncio.run(main(int(line)))
        os._exit(0)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextlib.asynccontextmanager
async def workers(
    root: Path, url: str, clock_seconds: float, work: str
) -> AsyncIterator[Callable[[int], Awaitable[bool]]]:
    """Runs one that is killed ahead of its n-th step; whether it was, false if it ended before."""
    arguments = [str(root), url, str(clock_seconds), work]
    maker = await asyncio.create_subprocess_exec(sys.executable, "-c", _WORKER, *arguments, stdin=PIPE, stdout=PIPE)
    assert maker.stdin is not None
    assert maker.stdout is not None
    into, out = maker.stdin, maker.stdout

    async def killed(step: int) -> bool:
        into.write(f"{step}\n".encode())
        async with asyncio.timeout(30):
            while not (line := await out.readline()).startswith(b"ended "):
                assert line, "the maker of workers is gone"  # else it is the log
        code = int(line.split()[1])
        assert code in (0, -signal.SIGKILL)
        return code != 0

    yield killed
    into.close()
    await maker.wait()


@pytest.mark.parametrize("work", ["copy", "drop", "heal"])
async def test_a_worker_killed_at_any_step_loses_nothing(sqlite_url: str, tmp_path: Path, work: str) -> None:
    clock = ManualClock()
    database = Database(sqlite_url, clock)
    site = Site(database, clock, tmp_path)
    await push_blob(site.registry, DATA)
    await site.parts.notes.flush()
    if work != "copy":
        await site.placed()
    if work == "drop":
        clock.tick(8 * DAY)
    if work == "heal":
        clock.tick(8 * DAY)
        site.path("primary", DIGEST).write_bytes(bytes(len(DATA)))
    at = clock.monotonic()
    # Each worker dies one step later than the one before it, and goes on with what that one left.
    step = 1
    async with workers(tmp_path, sqlite_url, at, "scrub" if work == "heal" else "place") as killed:
        while await killed(step):
            intact = [name for name in site.holders(DIGEST) if site.path(name, DIGEST).read_bytes() == DATA]
            assert intact, f"lost at step {step}"
            step += 1
            assert step < 40
    assert step > 3
    if work == "heal":
        assert site.path("primary", DIGEST).read_bytes() == DATA
    else:
        assert site.holders(DIGEST) == ({"second", "third"} if work == "drop" else {"primary", "second"})
        known = await site.known(DIGEST)
        assert {name for name, copy in known.items() if copy.good} == site.holders(DIGEST)
    # A reader of its own: ours may keep a file open for five seconds after another process moved it aside.
    reader = Site(database, clock, tmp_path)
    assert await whole(reader.stores, DIGEST, len(DATA)) == DATA
    await reader.stores.close()
    await site.stores.close()
    await database.close()
