"""Logs and commands of the container engine in memory: a handful of programs of a shell, none of which runs anything.

Invariant: nothing waits for a clock, so simulations stay deterministic; a command ends when its input ends, its context
is left, or its container stops.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

from agent.runtimes.failures import EngineRefused
from agent.runtimes.streams import Channel, ExecOrder, LogQuery, Piece, Size

KILLED = 137
NOT_FOUND = 127
_WAITING_PIECES = 16
_REDIRECTION = re.compile(r"echo (?P<words>.*?)\s*(?P<where>>&2|> ?/\S+)?")


class MemoryLog:
    """What one container wrote, of which the newest `limit` pieces are kept."""

    def __init__(self, limit: int = 1000) -> None:
        self._pieces: deque[Piece] = deque(maxlen=limit)
        self._written = 0
        self._changed = asyncio.Event()
        self.ended = False

    def write(self, data: bytes, channel: Channel = Channel.OUTPUT, at_ns: int = 0) -> None:
        self._pieces.append(Piece(channel, data, at_ns or self._written + 1))
        self._written += 1
        self._tell()

    def end(self, *, ended: bool = True) -> None:
        """No more comes, until it is started again."""
        self.ended = ended
        self._tell()

    async def read(self, query: LogQuery) -> AsyncIterator[Piece]:
        wanted = {Channel.OUTPUT: query.output, Channel.ERRORS: query.errors}
        found = [one for one in self._pieces if wanted[one.channel] and one.at_ns >= query.since_ns]
        position = self._written
        for piece in found if query.tail is None else found[max(0, len(found) - query.tail) :]:
            yield piece
        while query.follow:
            if position == self._written:
                if self.ended:
                    return
                await self._changed.wait()
                continue
            fresh = list(self._pieces)[-(self._written - position) :]
            position = self._written
            for piece in fresh:
                if wanted[piece.channel]:
                    yield piece

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


@dataclass
class MemorySession:
    """A `Session`. `ready`: what it wrote and nobody has read yet; `supply`: endless output."""

    order: ExecOrder
    reach: Callable[[], None] = field(default=lambda: None)
    size: Size | None = None
    ready: deque[Piece] = field(default_factory=deque)
    supply: bytes = b""
    echoes: bool = False
    code: int | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> Piece | None:
        while True:
            self.reach()
            if self.ready:
                piece = self.ready.popleft()
                self._tell()
                return piece
            if self.code is not None:
                return None
            if self.supply:
                await asyncio.sleep(0)
                return Piece(Channel.OUTPUT, self.supply)
            await self._changed.wait()

    async def write(self, data: bytes) -> None:
        self.reach()
        while self.code is None and len(self.ready) >= _WAITING_PIECES:
            await self._changed.wait()
        if self.echoes and self.code is None and data:
            self.ready.append(Piece(Channel.OUTPUT, data))
            self._tell()

    async def end_input(self) -> None:
        if self.echoes:
            self.end(0)

    async def resize(self, size: Size) -> None:
        if self.order.terminal is not None:
            self.size = size

    async def exit_code(self) -> int:
        while self.code is None or self.ready:
            await self._changed.wait()
        return self.code

    def end(self, code: int) -> None:
        if self.code is None:
            self.code = code
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def run(
    order: ExecOrder, environment: Mapping[str, str], files: MutableMapping[str, bytes], reach: Callable[[], None]
) -> MemorySession:
    """`environment` and `files` of the container. Raises `EngineRefused` when the command has no words."""
    if not order.argv:
        raise EngineRefused("there is no command to run", action="name one")
    session = MemorySession(order, reach, order.terminal)
    name, arguments = order.argv[0].rpartition("/")[2], order.argv[1:]
    match name:
        case "sleep":
            return session
        case "yes":
            session.supply = (" ".join(arguments or ("y",)) + "\n").encode() * 1024
            return session
        case "cat" if not arguments:
            session.echoes = order.input
            if not order.input:
                session.end(0)
            return session
    errors, text, code = _finite(name, arguments, {**environment, **order.environment}, files, order)
    if text:
        channel = Channel.ERRORS if errors and order.terminal is None else Channel.OUTPUT
        session.ready.append(Piece(channel, text))
    session.end(code)
    return session


def _finite(
    name: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    files: MutableMapping[str, bytes],
    order: ExecOrder,
) -> tuple[bool, bytes, int]:
    """(whether it goes to the errors, what it writes, exit code)."""
    match name, tuple(arguments):
        case "true", _:
            return False, b"", 0
        case "false", _:
            return False, b"", 1
        case "echo", words:
            return False, (" ".join(words) + "\n").encode(), 0
        case "env", ():
            return False, "".join(f"{key}={value}\n" for key, value in sorted(environment.items())).encode(), 0
        case "pwd", ():
            return False, f"{order.working_dir or '/'}\n".encode(), 0
        case "id", ("-u",):
            return False, f"{order.user.partition(':')[0] or 0}\n".encode(), 0
        case "cat", (path,) if path in files:
            return False, files[path], 0
        case "sh", ("-c", script):
            return _script(script, files)
    return True, f"{name}: not found\n".encode(), NOT_FOUND


def _script(script: str, files: MutableMapping[str, bytes]) -> tuple[bool, bytes, int]:
    if left := re.fullmatch(r"exit (\d+)", script):
        return False, b"", int(left[1])
    if echo := _REDIRECTION.fullmatch(script):
        text, where = f"{echo['words']}\n".encode(), echo["where"] or ""
        if where.startswith(">") and where != ">&2":
            files[where.removeprefix(">").strip()] = text
            return False, b"", 0
        return where == ">&2", text, 0
    return True, b"sh: syntax error\n", 2
