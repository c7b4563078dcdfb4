"""The source's end: whoever may copy an instance of this host reads it here, while it stands.

It listens only while something is to be handed over. Invariant: nothing is read but by the host that desired state
names, proven by its certificate, for the move that it names, and of an instance that does not run; when desired state
no longer says so, the reading ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import structlog

from agent.desired import DesiredBook
from agent.model import LIVE_STATES, Assignment, DesiredState, MoveReport
from agent.moves.line import KEEP_SECONDS, FrameWriter, read_question
from agent.reporter import Reporter
from agent.runtimes import RuntimeDriver
from common.clock import Clock
from common.errors import Conflict, Failure, NotFound
from common.tls import peer_name, server_context

log = structlog.get_logger()
T = TypeVar("T")

_LOOK_SECONDS = 0.5
_QUESTION_LIMIT = 1 << 10


class NothingHandedOver(NotFound):
    code = "nothing_handed_over"


class StillRuns(Conflict):
    code = "still_runs"


class Handing:
    """`addresses`: by which other hosts may reach that port of this one, best first."""

    def __init__(
        self,
        book: DesiredBook,
        driver: Callable[[], RuntimeDriver | None],
        reporter: Reporter,
        clock: Clock,
        identity_dir: Path,
        host: str,
        port: int,
        addresses: Callable[[int], Sequence[str]],
    ) -> None:
        self._book = book
        self._driver = driver
        self._reporter = reporter
        self._clock = clock
        self._identity_dir = identity_dir
        self._host = host
        self._port = port
        self._addresses = addresses
        self._reading: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """For the whole life of the agent."""
        while True:
            if self._wanted():
                try:
                    async with self._listening() as port:
                        await self._until_over(port)
                except OSError as error:
                    log.warning("instances cannot be handed over", port=self._port, error=str(error))
                    await self._clock.sleep(5.0)
            await self._clock.sleep(_LOOK_SECONDS)

    async def _until_over(self, port: int) -> None:
        addresses = tuple(self._addresses(port))
        told: set[str] = set()
        while wanted := self._wanted():
            for move_id in wanted.keys() - told:
                self._reporter.report(MoveReport(move_id, addresses))
            told = set(wanted)
            for move_id in self._reading.keys() - wanted.keys():
                self._reading[move_id].cancel()
            await self._clock.sleep(_LOOK_SECONDS)

    def _wanted(self) -> dict[str, Assignment]:
        return {
            one.hand_over.move_id: one
            for one in self._book.current.items.values()
            if one.hand_over is not None and one.desired_state is DesiredState.STOPPED
        }

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[int]:
        # A new context each time: the identity is renewed every few hours.
        context = server_context(self._identity_dir)
        server = await asyncio.start_server(
            self._met, self._host, self._port, ssl=context, limit=_QUESTION_LIMIT, ssl_shutdown_timeout=1.0
        )
        try:
            yield int(server.sockets[0].getsockname()[1])
        finally:
            server.close()
            for task in self._reading.values():
                task.cancel()

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = FrameWriter(writer)
        try:
            try:
                peer = peer_name(writer.get_extra_info("ssl_object"))
                move_id = await read_question(reader)
                wanted = self._wanted().get(move_id)
                if (
                    wanted is None
                    or wanted.hand_over is None
                    or (peer.kind, peer.id) != ("host", wanted.hand_over.target_host_id)
                ):
                    raise NothingHandedOver("nothing is handed over to you by that move", action="wait to be told")
                await self._serve(move_id, wanted, frames)
            except Failure as failure:
                log.warning("instance not handed over", error=str(failure))
                with contextlib.suppress(Failure):
                    await frames.failure(str(failure))
        except asyncio.CancelledError:
            return  # nobody awaits this task: it ends with the line
        finally:
            writer.close()

    async def _serve(self, move_id: str, wanted: Assignment, frames: FrameWriter) -> None:
        """The newest reader is the one that lives: an older one of the same move gives way."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a handler of a server always runs in one
        if (older := self._reading.get(move_id)) is not None:
            older.cancel()
            await asyncio.wait([older])
        self._reading[move_id] = task
        try:
            driver = self._driver()
            if driver is None:
                raise NothingHandedOver("this host has no container engine", action="wait for it")
            runtime_id = await _standing(driver, wanted.instance_id)
            log.info("instance handed over", instance=wanted.instance_id, move=move_id)
            async with contextlib.AsyncExitStack() as stack:
                opening = stack.enter_async_context(driver.export(runtime_id, with_snapshots=True))
                chunks = await _kept_alive(opening, frames)
                while (chunk := await _kept_alive(anext(chunks, None), frames)) is not None:
                    await frames.data(chunk)
            await frames.end()
        finally:
            if self._reading.get(move_id) is task:
                del self._reading[move_id]


async def _standing(driver: RuntimeDriver, instance_id: str) -> str:
    for container in await driver.containers():
        if container.instance_id != instance_id:
            continue
        if container.state in LIVE_STATES:
            raise StillRuns("the instance still runs", action="wait until it stands")
        return container.runtime_id
    raise NothingHandedOver("this host has no container of the instance", action="cancel the move")


async def _kept_alive(work: Awaitable[T], frames: FrameWriter) -> T:
    """What `work` gives, however long that takes; the other end hears that somebody is here."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=KEEP_SECONDS))[0]:
            await frames.keep()
        return await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
