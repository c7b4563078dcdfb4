"""What LXD instances say on their consoles, as logs: one stream without times, so `since` cannot be honoured.

Facts (measured, LXD 5.0.2): reading the console of a running instance takes what is read out of LXD's buffer of about
128 KiB, an empty buffer is a 500 that speaks of a missing file, and once the instance stands the same question gives
all that was ever read or left. So what was read is kept here, as much as LXD itself would keep, and whoever asks again
is told it again; it is lost with the agent. An LXD that does not empty its buffer is recognised, and told apart.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

from agent.runtimes.failures import EngineRefused
from agent.runtimes.lxd_calls import LxdCalls, Missing
from agent.runtimes.streams import LARGEST_PIECE, Channel, LogQuery, Piece
from common.clock import Clock

_LOOK_SECONDS = 0.5
_KEPT_BYTES = 128 << 10
# How much of what was seen is looked for in a buffer that has lost its beginning; shorter where that is not found.
_OVERLAPS = (4096, 512, 64)

Runs = Callable[[], Awaitable[bool]]


@dataclass
class Console:
    """`text`: the last of what is known. `told`: how many bytes there ever were."""

    text: bytes = b""
    told: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def add(self, fresh: bytes) -> None:
        self.text = (self.text + fresh)[-_KEPT_BYTES:]
        self.told += len(fresh)

    def replace(self, whole: bytes) -> None:
        """`whole` is all that there is."""
        self.told += len(what_is_new(self.text, whole))
        self.text = whole[-_KEPT_BYTES:]

    def since(self, told: int) -> bytes:
        return self.text[max(0, len(self.text) - (self.told - told)) :] if self.told > told else b""


class LxdConsoles:
    def __init__(self, calls: LxdCalls, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock
        self._consoles: dict[str, Console] = {}
        self._emptied_by_reading: bool | None = None

    def forget_all_but(self, runtime_ids: set[str]) -> None:
        self._consoles = {key: one for key, one in self._consoles.items() if key in runtime_ids}

    async def pieces(self, runtime_id: str, name: str, query: LogQuery, runs: Runs) -> AsyncGenerator[Piece, None]:
        if not query.output:
            return
        alive = await runs()
        console = await self._look(runtime_id, name, alive, runs)
        known, rest = whole_lines(console.text)
        position = console.told
        for line in known if query.tail is None else known[max(0, len(known) - query.tail) :]:
            yield Piece(Channel.OUTPUT, line)
        while query.follow and alive:
            await self._clock.sleep(_LOOK_SECONDS)
            alive = await runs()  # before the look, so that last words are heard
            await self._look(runtime_id, name, alive, runs)
            lines, rest = whole_lines(rest + console.since(position))
            position = console.told
            for line in lines:
                yield Piece(Channel.OUTPUT, line)
        if rest and query.tail != 0:
            yield Piece(Channel.OUTPUT, rest[:LARGEST_PIECE])

    async def _look(self, runtime_id: str, name: str, alive: bool, runs: Runs) -> Console:
        console = self._consoles.setdefault(runtime_id, Console())
        async with console.turn:
            now = await self._read(name)
            learns = alive and now != b"" and self._emptied_by_reading is None
            again = await self._read(name) if learns else b""
            if alive and now and not await runs():
                # It ended meanwhile, so that this may be what is new or all that there ever was. Now it is all, or the
                # instance is gone.
                alive, now = False, await self._read(name) or now
            elif learns:
                self._emptied_by_reading = not again.startswith(now)
                now = now + again if self._emptied_by_reading else again
            if alive and self._emptied_by_reading:
                console.add(now)
            elif now:
                console.replace(now)
        return console

    async def _read(self, name: str) -> bytes:
        with contextlib.suppress(Missing):
            try:
                return await self._calls.read("instances", name, "console")
            except EngineRefused as refusal:
                if "no such file" not in str(refusal):
                    raise
        return b""


def whole_lines(text: bytes) -> tuple[list[bytes], bytes]:
    """Lines as a program wrote them (a console ends them with a carriage return too), and what is no line yet; one that
    is longer than a piece may be is cut.
    """
    *whole, rest = text.replace(b"\r\n", b"\n").split(b"\n")
    lines = [line + b"\n" for line in whole]
    cut = [line[at : at + LARGEST_PIECE] for line in lines for at in range(0, len(line), LARGEST_PIECE)]
    return cut, rest


def what_is_new(seen: bytes, now: bytes) -> bytes:
    """`now` without what `seen` told already; all of it if nothing is known again (the instance was started anew, or
    wrote more than LXD keeps).
    """
    if now.startswith(seen):
        return now[len(seen) :]
    for length in _OVERLAPS:
        known = seen[-length:]
        at = now.rfind(known)
        if at >= 0:
            return now[at + len(known) :]
    return now
