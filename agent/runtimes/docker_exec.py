"""A command that Docker runs inside a container, from its beginning to its certain end.

Docker has no call that ends such a command and does not end it when its connection is lost (measured, dockerd 20.10),
so its processes are killed from outside, by the process id that the engine gives: those of its session and their
descendants, and only while the kernel says that they belong to that container. Where this agent does not share the
engine's process ids, nothing is killed, and the log says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog
from docker import APIClient

from agent.runtimes.docker_calls import DockerCalls
from agent.runtimes.docker_streams import DockerSocket
from agent.runtimes.streams import LARGEST_PIECE, Channel, ExecOrder, Piece, Size
from common.errors import Failure

log = structlog.get_logger()

_CHANNELS = {1: Channel.OUTPUT, 2: Channel.ERRORS}
_FRAME_HEADER_BYTES = 8
_END_OF_INPUT = b"\x04"  # what a person types for it at a terminal
_END_SECONDS = 5.0
_LOOK_SECONDS = 0.02
_LONGEST_LOOK_SECONDS = 0.5
_SIZE_TRIES = 25


class DockerSession:
    """A `Session`. Reading may be cancelled and done again: each await takes all or nothing from the connection."""

    def __init__(
        self,
        calls: DockerCalls,
        exec_id: str,
        order: ExecOrder,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._calls = calls
        self._id = exec_id
        self._order = order
        self._reader = reader
        self._writer = writer
        self._channel, self._left = Channel.OUTPUT, 0

    async def read(self) -> Piece | None:
        try:
            if self._order.terminal is not None:
                data = await self._reader.read(LARGEST_PIECE)
                return Piece(Channel.OUTPUT, data) if data else None
            while not self._left:
                header = await self._reader.readexactly(_FRAME_HEADER_BYTES)
                self._channel = _CHANNELS.get(header[0], Channel.OUTPUT)
                self._left = int.from_bytes(header[4:])
            data = await self._reader.read(min(self._left, LARGEST_PIECE))
        except (OSError, EOFError):
            return None  # `exit_code` asks the engine what that means
        self._left -= len(data)
        return Piece(self._channel, data) if data else None

    async def write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self._writer.write(data)
            await self._writer.drain()

    async def end_input(self) -> None:
        if self._order.terminal is not None:
            await self.write(_END_OF_INPUT)
        elif self._writer.can_write_eof() and not self._writer.is_closing():
            with contextlib.suppress(OSError):
                self._writer.write_eof()

    async def resize(self, size: Size) -> None:
        if self._order.terminal is not None:
            await self._calls.ask(lambda client: client.exec_resize(self._id, height=size.rows, width=size.columns))

    async def exit_code(self) -> int:
        pause = _LOOK_SECONDS
        while True:
            found = await self.inspect()
            if not found.get("Running") and found.get("ExitCode") is not None:
                return int(found["ExitCode"])
            # The engine notes the end a moment after the last output, and tells nobody.
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK_SECONDS)

    async def inspect(self) -> dict[str, Any]:
        def ask(client: APIClient) -> dict[str, Any]:
            found: dict[str, Any] = client.exec_inspect(self._id)
            return found

        return await self._calls.ask(ask)


@contextlib.asynccontextmanager
async def exec_session(
    calls: DockerCalls, socket: DockerSocket, base_path: str, runtime_id: str, order: ExecOrder
) -> AsyncIterator[DockerSession]:
    """The container is known to be ours."""

    def create(client: APIClient) -> str:
        made = client.exec_create(
            runtime_id,
            list(order.argv),
            stdin=order.input,
            tty=order.terminal is not None,
            environment=dict(order.environment),
            workdir=order.working_dir or None,
            user=order.user,
        )
        return str(made["Id"])

    exec_id = await calls.ask(create)
    document = {"Detach": False, "Tty": order.terminal is not None}
    reader, writer = await socket.take_over(f"{base_path}/exec/{exec_id}/start", document)
    session = DockerSession(calls, exec_id, order, reader, writer)
    try:
        if order.terminal is not None:
            await _give_size(session, order.terminal)
        yield session
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        await _end(session, runtime_id)


async def _give_size(session: DockerSession, size: Size) -> None:
    """The engine may refuse while the command begins; one that is over already has no terminal to speak of."""
    with contextlib.suppress(Failure):
        for _ in range(_SIZE_TRIES):
            try:
                await session.resize(size)
            except Failure as failure:
                log.info("a terminal has not got its size yet", error=str(failure))
                if (await session.inspect()).get("ExitCode") is not None:
                    return
                await asyncio.sleep(_LOOK_SECONDS)
            else:
                return


async def _end(session: DockerSession, runtime_id: str) -> None:
    try:
        async with asyncio.timeout(_END_SECONDS):
            # Without an exit code it has not begun yet: the engine gives us its streams first.
            while (found := await session.inspect()).get("Running") or found.get("ExitCode") is None:
                if pid := int(found.get("Pid") or 0):
                    await asyncio.to_thread(_kill_session, pid, runtime_id)
                await asyncio.sleep(_LOOK_SECONDS)
    except (Failure, OSError, TimeoutError) as error:
        log.warning("a command may still run in its container", container=runtime_id, error=str(error))


def _kill_session(leader: int, runtime_id: str) -> None:
    """Descendants first frozen, so that none of them starts another while they are counted."""
    doomed: set[int] = set()
    while found := _family(leader, runtime_id) - doomed:
        for pid in found:
            _signal(pid, signal.SIGSTOP)
        doomed |= found
    for pid in doomed:
        _signal(pid, signal.SIGKILL)


def _family(leader: int, runtime_id: str) -> set[int]:
    parents: dict[int, int] = {}
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            fields = (entry / "stat").read_text().rpartition(") ")[2].split()
            pid, parent, session = int(entry.name), int(fields[1]), int(fields[3])
            parents[pid] = parent
            if pid == leader or session == leader:
                found.add(pid)
    grown = True
    while grown:
        children = {pid for pid, parent in parents.items() if parent in found} - found
        found |= children
        grown = bool(children)
    return {pid for pid in found if _is_in(pid, runtime_id)}


def _is_in(pid: int, runtime_id: str) -> bool:
    with contextlib.suppress(OSError):
        return runtime_id in Path(f"/proc/{pid}/cgroup").read_text()
    return False


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)
