"""What a killed agent left running is ended by the next one, and nothing else."""

import asyncio
import os
from pathlib import Path

from agent.channels.leftovers import MARK, kill_leftovers


async def test_marked_processes_and_their_children_end_and_others_run_on() -> None:
    async def sleeper(**environment: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec("sleep", "60", env={"PATH": "/usr/bin:/bin", **environment})

    own, other, plain = await sleeper(**{MARK: "h-1-test"}), await sleeper(**{MARK: "h-2-test"}), await sleeper()
    try:
        while b"sleep" not in Path(f"/proc/{own.pid}/cmdline").read_bytes():  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.01)
        assert await asyncio.to_thread(kill_leftovers, "h-1-test") == 1
        assert await own.wait() == -9
        assert (other.returncode, plain.returncode) == (None, None)
    finally:
        for process in (other, plain):
            process.kill()
            await process.wait()


def test_what_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    for name in ("self", "1x", str(os.getpid()), "4194304"):
        (tmp_path / name).mkdir()
    assert kill_leftovers("h-1-test", tmp_path) == 0
