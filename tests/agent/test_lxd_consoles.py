"""A line on an LXD console is told once, whenever the instance ends.

The console here behaves as LXD 5.0.2's does (agent/runtimes/lxd_logs.py has the facts; the runtime's contract suite
runs on the real one).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, cast

from hypothesis import example, given
from hypothesis import strategies as st

from agent.runtimes.failures import EngineRefused
from agent.runtimes.lxd_logs import LxdConsoles
from agent.runtimes.streams import LogQuery
from common.clock import ManualClock

SPEAK, STOP, NOTHING = "speak", "stop", "nothing"


class OneInstance:
    """Does the next of its deeds before each question that is answered; ends when there are no more."""

    def __init__(self, deeds: Sequence[str]) -> None:
        self.deeds = list(deeds)
        self.running = True
        self.said: list[bytes] = []
        self.left = b""

    def live(self) -> None:
        deed = self.deeds.pop(0) if self.deeds else STOP
        if deed == STOP:
            self.running = False
        elif deed == SPEAK and self.running:
            line = b"line %d\n" % len(self.said)
            self.said.append(line)
            self.left += line

    async def runs(self) -> bool:
        self.live()
        return self.running

    async def read(self, *_path: str) -> bytes:
        self.live()
        if not self.running:
            told = b"".join(self.said)
        else:
            told, self.left = self.left, b""
        if not told:
            raise EngineRefused("open console.log: no such file or directory")
        return told


class _Impatient(ManualClock):
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def _follow(instance: OneInstance, consoles: LxdConsoles) -> list[bytes]:
    async with contextlib.aclosing(
        consoles.pieces("id", "name", LogQuery(follow=True), instance.runs),
    ) as pieces:
        return [piece.data async for piece in pieces]


@given(st.lists(st.sampled_from([SPEAK, SPEAK, NOTHING, NOTHING, STOP]), max_size=30))
# It ends between the question whether it runs and what it says.
@example([SPEAK, NOTHING, NOTHING, NOTHING, NOTHING, SPEAK, STOP])
@example([SPEAK, NOTHING, STOP])
def test_who_follows_is_told_each_line_once(deeds: Sequence[str]) -> None:
    instance = OneInstance(deeds)
    consoles = LxdConsoles(cast(Any, instance), _Impatient())

    assert asyncio.run(_follow(instance, consoles)) == instance.said
    # And who asks afterwards is told all of it.
    assert asyncio.run(_follow(instance, consoles)) == instance.said
