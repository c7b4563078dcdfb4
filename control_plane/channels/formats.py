"""Logs as text and as NDJSON; pure.

Invariant: bytes of text pass as they are. Whatever ends the logs other than their own end is said in the last line, so
that nobody takes a part for the whole.
"""

from __future__ import annotations

import codecs
import json
from datetime import UTC, datetime
from typing import Any, Protocol

from common.errors import Failure
from control_plane.channels.model import Ended, Piece, Stream

NDJSON = "application/x-ndjson"


class LogFormat(Protocol):
    media_type: str

    def piece(self, piece: Piece) -> bytes: ...

    def end(self, ended: Ended) -> bytes: ...


class TextLogs:
    """`timestamps`, `marked`: each line begins with its time (UTC), and with `stdout` or `stderr`."""

    media_type = "text/plain; charset=utf-8"

    def __init__(self, *, timestamps: bool = False, marked: bool = False) -> None:
        self._timestamps = timestamps
        self._marked = marked
        self._last: tuple[Stream, bytes] | None = None

    def piece(self, piece: Piece) -> bytes:
        continues = self._last is not None and not self._last[1].endswith(b"\n")
        broken = continues and self._last is not None and self._last[0] is not piece.stream
        self._last = (piece.stream, piece.data[-1:])
        prefix = self._prefix(piece)
        if not prefix:
            return piece.data
        lines = piece.data.splitlines(keepends=True)
        first = lines[:1] if continues and not broken else [prefix + line for line in lines[:1]]
        return (b"\n" if broken else b"") + b"".join([*first, *(prefix + line for line in lines[1:])])

    def end(self, ended: Ended) -> bytes:
        if ended.failure is None:
            return b""
        begun = self._last is not None and not self._last[1].endswith(b"\n")
        return (b"\n" if begun else b"") + f"longshore: {ended.failure}\n".encode()

    def _prefix(self, piece: Piece) -> bytes:
        time = f"{time_text(piece.at_ns)} " if self._timestamps and piece.at_ns else ""
        return f"{time}{piece.stream.value} ".encode() if self._marked else time.encode()


class JsonLogs:
    """One object for each piece, which may be several lines or a part of one; the last object has `end`."""

    media_type = NDJSON

    def __init__(self) -> None:
        # A piece may end within a character.
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: decoder("replace") for stream in Stream}

    def piece(self, piece: Piece) -> bytes:
        document: dict[str, Any] = {"stream": piece.stream.value}
        if piece.at_ns:
            document["time"] = time_text(piece.at_ns)
        document["text"] = self._decoders[piece.stream].decode(piece.data)
        return _line(document)

    def end(self, ended: Ended) -> bytes:
        return _line({"end": {"code": "ended"} if ended.failure is None else failure_document(ended.failure)})


def failure_document(failure: Failure) -> dict[str, str]:
    return {"code": failure.code, "detail": failure.detail, "action": failure.action}


def time_text(at_ns: int) -> str:
    """RFC 3339 with nanoseconds, UTC."""
    seconds, rest = divmod(at_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def prefers_ndjson(accept: str) -> bool:
    """Whether an `Accept` header names NDJSON at least as gladly as text (RFC 9110 section 12.5.1, without wildcards:
    who says `*/*` gets text).
    """
    weights = {"text/plain": 0.0, NDJSON: 0.0, "application/json": 0.0}
    for entry in accept.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        if name in weights:
            weights[name] = _weight(parameters)
    ndjson = max(weights[NDJSON], weights["application/json"])
    return ndjson > 0 and ndjson >= weights["text/plain"]


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
