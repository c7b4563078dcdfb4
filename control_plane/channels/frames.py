"""The frames of `/exec` and `/console` (docs/operations/channels.md); pure.

A binary frame is data: its first byte says of what (0 input, 1 output, 2 errors; Kubernetes' numbers), the rest are
bytes. A text frame is a word of control: a JSON object with `type`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.flow import LARGEST_PIECE_BYTES, WINDOW_BYTES
from control_plane.channels.formats import failure_document
from control_plane.channels.model import (
    CommandWanted,
    ConsoleWanted,
    Ended,
    FrameMalformed,
    InputTaken,
    Piece,
    Stream,
    TerminalSize,
)

PROTOCOL = "longshore.channel.v1"
_INPUT = 0
_NUMBERS = {Stream.OUTPUT: b"\x01", Stream.ERRORS: b"\x02"}
_LARGEST_WORD = 128 << 10


class _Word(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Size(_Word):
    columns: int = 80
    rows: int = 24

    def size(self) -> TerminalSize:
        return TerminalSize(self.columns, self.rows)


class ExecStart(_Word):
    """The first word of a client at `/exec`. window: send no more than so many bytes beyond what `credit` gave back;
    absent: as much as the connection takes.
    """

    type: str
    command: list[str]
    environment: dict[str, str] = {}
    user: str = ""
    working_directory: str = ""
    terminal: _Size | None = None
    input: bool = False
    window: int | None = Field(default=None, ge=1, le=WINDOW_BYTES)

    def wanted(self) -> CommandWanted:
        return CommandWanted(
            tuple(self.command),
            self.environment,
            self.user,
            self.working_directory,
            None if self.terminal is None else self.terminal.size(),
            self.input,
        )


class ConsoleStart(_Word):
    """The first word of a client at `/console`."""

    type: str
    terminal: _Size = _Size()
    window: int | None = Field(default=None, ge=1, le=WINDOW_BYTES)

    def wanted(self) -> ConsoleWanted:
        return ConsoleWanted(self.terminal.size())


@dataclass(frozen=True, slots=True)
class Input:
    data: bytes


@dataclass(frozen=True, slots=True)
class InputEnd:
    pass


@dataclass(frozen=True, slots=True)
class Credit:
    count: int


ClientWord = Input | InputEnd | Credit | TerminalSize


def start_of(text: str, kind: type[ExecStart] | type[ConsoleStart]) -> ExecStart | ConsoleStart:
    """Raises `FrameMalformed`."""
    document = _document(text)
    if document.get("type") != "start":
        raise FrameMalformed("the first word is not `start`", action="begin with a text frame of that type")
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FrameMalformed(f"`start` is wrong in {where}: {first['msg']}", action="mend it") from None


def word_of(frame: str | bytes) -> ClientWord:
    """What a client says after `start`. Raises `FrameMalformed`."""
    if isinstance(frame, bytes):
        if not frame or frame[0] != _INPUT or len(frame) > LARGEST_PIECE_BYTES + 1:
            raise FrameMalformed(
                "a binary frame is not 0 and at most 64 KiB of input", action="send input in smaller frames"
            )
        return Input(frame[1:])
    document = _document(frame)
    match document.get("type"):
        case "input_end":
            return InputEnd()
        case "resize":
            return TerminalSize(_number(document, "columns", 4096), _number(document, "rows", 4096))
        case "credit":
            return Credit(_number(document, "bytes", WINDOW_BYTES))
        case other:
            raise FrameMalformed(f"there is no word {str(other)[:40]!r}", action="send input_end, resize or credit")


def frame_of(word: Piece | InputTaken | Ended) -> str | bytes:
    match word:
        case Piece():
            return _NUMBERS[word.stream] + word.data
        case InputTaken():
            return json.dumps({"type": "credit", "bytes": word.count})
        case Ended(failure=None):
            return json.dumps({"type": "exit", "code": word.exit_code})
        case Ended(failure=failure):
            return json.dumps({"type": "error", **(failure_document(failure) if failure else {})})


def _document(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text) if len(text) <= _LARGEST_WORD else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise FrameMalformed("a text frame is no JSON object of at most 128 KiB", action="send one")
    return document


def _number(document: dict[str, Any], name: str, largest: int) -> int:
    value = document.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= largest:
        raise FrameMalformed(f"{name} is no number from 1 to {largest}", action="mend it")
    return value
