"""A host whose agents are shell scripts: they write down that they ran, and do what they were made for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from agent.updates.layout import ENTRY, Layout
from agent.updates.model import Order, State
from agent.updates.supervisor import Supervisor, Tempo
from common.clock import SystemClock

TEMPO = Tempo(poll=0.02, stop=2.0, lock=2.0, settled=60.0, restart=0.02, restart_cap=0.05)
NEW, OTHER = "a" * 64, "b" * 64
# Arguments: run, the directory. A file `end` there is what an agent takes for "a newer version lies ready".
_BEGINS = '#!/bin/sh\necho {name} >> "$2/ran"\n'
_STAYS = 'while [ ! -e "$2/end" ]; do sleep 0.02; done\n'
_IS_WELL = 'cp "$2/agent/wanted.json" "$2/agent/.healthy" && mv "$2/agent/.healthy" "$2/agent/healthy.json"\n'
STAYS = _BEGINS + _STAYS
LIVES_ON = _BEGINS + "while :; do sleep 0.02; done\n"
IS_WELL = _BEGINS + _IS_WELL + "while :; do sleep 0.02; done\n"
DIES = _BEGINS + "exit 3\n"


class Killed(BaseException):
    """The supervisor is gone, between two changes of the disk."""


class Host:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.layout = Layout(root / "agent")
        self.layout.prepare()
        self._program("built-in", STAYS, root / "built-in")
        self.step: Callable[[str], None] = lambda _: None

    def install(self, digest: str, name: str, script: str) -> None:
        self._program(name, script, self.layout.version(digest) / ENTRY)

    def wish(self, number: int, digest: str, *, patience_seconds: float = 60.0) -> Order:
        """What the agent does when a newer version lies ready: write it down, and end."""
        order = Order(number, digest, "2", 0.1, patience_seconds)
        self.layout.write_wanted(order)
        (self.root / "end").touch()
        return order

    @property
    def state(self) -> State:
        return self.layout.read_state()

    def ran(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return (self.root / "ran").read_text().split()
        return []

    @contextlib.asynccontextmanager
    async def supervised(self) -> AsyncIterator[asyncio.Task[None]]:
        """Until the block ends; then the agent is stopped, unless the supervisor was killed before."""
        stopping = asyncio.Event()
        supervisor = Supervisor(
            Layout(self.root / "agent", lambda word: self.step(word)),
            self.root,
            [str(self.root / "built-in")],
            ["run", str(self.root)],
            SystemClock(),
            lambda: 0.5,
            TEMPO,
        )
        running = asyncio.ensure_future(supervisor.run(stopping))
        try:
            yield running
        finally:
            stopping.set()
            with contextlib.suppress(Killed):
                await running

    def _program(self, name: str, script: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script.format(name=name))
        path.chmod(0o755)


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
