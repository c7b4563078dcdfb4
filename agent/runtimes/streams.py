"""Bytes that flow between a container and whoever watches or types: logs, commands run inside, consoles.

Invariants: nothing is buffered beyond a bound (a reader that does not read stalls its own stream only), and leaving the
context that gave a stream ends it, whatever state it is in, within a few seconds.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

# One piece is never larger; engines' own frames are (dockerd: 16 KiB of a log line, more of an exec).
LARGEST_PIECE = 64 << 10


class Channel(enum.Enum):
    OUTPUT = "stdout"
    ERRORS = "stderr"


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of one of the two outputs. Of a terminal everything is OUTPUT.

    at_ns: of logs, when it was written, in nanoseconds since 1970; 0: the engine does not say.
    """

    channel: Channel
    data: bytes
    at_ns: int = 0


@dataclass(frozen=True, slots=True)
class LogQuery:
    """since_ns: only what was written then or later (nanoseconds since 1970; 0: from the beginning). tail: at most so
    many last lines of that; None: all. follow: go on until the container ends.
    """

    follow: bool = False
    since_ns: int = 0
    tail: int | None = None
    output: bool = True
    errors: bool = True


@dataclass(frozen=True, slots=True)
class Size:
    """Of a terminal, in characters."""

    columns: int = 80
    rows: int = 24


@dataclass(frozen=True, slots=True)
class ExecOrder:
    """A command to run in a running container. `user`: "" is the image's; `name`, `uid` or `uid:gid` otherwise.

    terminal: its size if it is to have one, which also makes one stream of its two outputs. input: whether `write` is
    meant to be used; without it the command reads end of file.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    terminal: Size | None = None
    input: bool = False


class Session(Protocol):
    """A command that runs in a container, or its console. All methods raise `EngineAway` when the engine is lost."""

    async def read(self) -> Piece | None:
        """The next bytes it wrote, at most `LARGEST_PIECE`; None at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Waits while the command does not read. What is written after its end is lost silently."""
        ...

    async def end_input(self) -> None:
        """The command reads end of file after what was written."""
        ...

    async def resize(self, size: Size) -> None:
        """Without a terminal nothing happens."""
        ...

    async def exit_code(self) -> int:
        """Waits for the end, which needs all output to be read; 128 + n after signal n. -1: the engine does not say."""
        ...
