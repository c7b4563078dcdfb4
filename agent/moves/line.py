"""The words on the line between two hosts.

The target says `longshore move 1 <move id>` and a line feed. The source answers with frames: one byte for the kind,
four for the length, then so many bytes. Data are parts of the archive; Keep is sent every few seconds while there are
none yet; End has the number of bytes and the SHA-256 of them all; Failure has a text for people.

Invariant: an archive is whole only if its End came and is right; a line that breaks anywhere else is a failure.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import re
import struct
from collections.abc import AsyncGenerator

from common.errors import Invalid, Unavailable

FRAME_BYTES = 1 << 20
KEEP_SECONDS = 10.0
SILENCE_SECONDS = 60.0
_QUESTION = re.compile(rb"longshore move 1 ([0-9a-f-]{36})\n")
_HEADER = struct.Struct(">BI")
_END = struct.Struct(">Q32s")
_LONGEST_TEXT = 2000


class LineBroken(Unavailable):
    code = "move_line_broken"


class SourceRefuses(Unavailable):
    """The source answers, and does not give it (now)."""

    code = "move_source_refuses"


class QuestionMalformed(Invalid):
    code = "move_question_malformed"


class Kind(enum.IntEnum):
    DATA = 1
    KEEP = 2
    END = 3
    FAILURE = 4


def question(move_id: str) -> bytes:
    return f"longshore move 1 {move_id}\n".encode()


async def read_question(reader: asyncio.StreamReader) -> str:
    """The id of a move. Raises `QuestionMalformed`, `LineBroken`."""
    try:
        async with asyncio.timeout(SILENCE_SECONDS):
            line = await reader.readuntil(b"\n")
    except (asyncio.IncompleteReadError, TimeoutError, OSError) as error:
        raise LineBroken("the other host asked for nothing") from error
    except asyncio.LimitOverrunError:
        line = b""
    found = _QUESTION.fullmatch(line)
    if found is None:
        raise QuestionMalformed("that is no question for a move", action="update the agents of both hosts")
    return found[1].decode()


class FrameWriter:
    """Counts and hashes what is sent. Raises `LineBroken` when the other end does not read, or is gone."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._hash = hashlib.sha256()
        self._count = 0

    async def data(self, chunk: bytes) -> None:
        for start in range(0, len(chunk), FRAME_BYTES):
            part = chunk[start : start + FRAME_BYTES]
            self._hash.update(part)
            self._count += len(part)
            await self._send(Kind.DATA, part)

    async def keep(self) -> None:
        await self._send(Kind.KEEP, b"")

    async def end(self) -> None:
        await self._send(Kind.END, _END.pack(self._count, self._hash.digest()))

    async def failure(self, text: str) -> None:
        await self._send(Kind.FAILURE, text.encode()[:_LONGEST_TEXT])

    async def _send(self, kind: Kind, body: bytes) -> None:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                self._writer.write(_HEADER.pack(kind, len(body)) + body)
                await self._writer.drain()
        except (OSError, TimeoutError) as error:
            raise LineBroken("the other host reads no more") from error


async def archive_from(reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    """The parts of the archive. Raises `LineBroken` unless it ends as it should, `SourceRefuses`."""
    seen, count = hashlib.sha256(), 0
    while True:
        kind, body = await _frame(reader)
        if kind == Kind.DATA:
            seen.update(body)
            count += len(body)
            yield body
        elif kind == Kind.FAILURE:
            raise SourceRefuses(f"the other host says: {body.decode(errors='replace')}")
        elif kind == Kind.END:
            if body != _END.pack(count, seen.digest()):
                raise LineBroken("what came is not what the other host sent")
            return
        elif kind != Kind.KEEP:
            raise LineBroken("the other host says what nobody understands", action="update the agents of both hosts")


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    try:
        async with asyncio.timeout(SILENCE_SECONDS):
            kind, length = _HEADER.unpack(await reader.readexactly(_HEADER.size))
            if length > FRAME_BYTES:
                raise LineBroken("the other host sends more at once than it may")
            return kind, await reader.readexactly(length)
    except (asyncio.IncompleteReadError, TimeoutError, OSError) as error:
        raise LineBroken("the line to the other host broke") from error
