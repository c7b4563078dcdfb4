"""The supervisor, wired: its directory, its lock, its signals."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from agent.updates.layout import Layout
from agent.updates.supervisor import Supervisor, built_in_command
from common.clock import SystemClock
from common.datadir import locked
from common.lifecycle import Lifecycle


async def run(data: Path, arguments: Sequence[str]) -> None:
    """Until SIGTERM or SIGINT. `arguments`: of every version that is started. Raises `DataInUse` when another
    supervisor works there, `OSError`.
    """
    root = data / "agent"
    clock = SystemClock()
    async with Lifecycle(stop_seconds=60.0) as lifecycle:
        await lifecycle.enter(locked(root, "supervisor of an agent"))
        supervisor = Supervisor(Layout(root), data, built_in_command(), arguments, clock, random.SystemRandom().random)
        lifecycle.spawn("supervisor", supervisor.run(lifecycle.stopping))
        await lifecycle.run_until_stopped()
