"""The target's end: reading what stands on another host, and tidying up what a move that ended left half done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

import structlog

from agent.desired import DesiredBook
from agent.model import MoveReport, TakeOver
from agent.moves.line import LineBroken, archive_from, question
from agent.reporter import Reporter
from agent.runtimes import RuntimeDriver
from common.clock import Clock
from common.errors import Failure
from common.tls import CertificateInvalid, member_client_context, peer_name

log = structlog.get_logger()

_CONNECT_SECONDS = 5.0
_PROGRESS_SECONDS = 1.0
_TIDY_SECONDS = 60.0
_READ_BYTES = 4 << 20


class SourceOutOfReach(LineBroken):
    """No address of the source answers from here, or somebody else answers there."""

    code = "move_source_out_of_reach"


class Taking:
    def __init__(
        self,
        book: DesiredBook,
        driver: Callable[[], RuntimeDriver | None],
        reporter: Reporter,
        clock: Clock,
        identity_dir: Path,
    ) -> None:
        self._book = book
        self._driver = driver
        self._reporter = reporter
        self._clock = clock
        self._identity_dir = identity_dir

    @contextlib.asynccontextmanager
    async def open(self, take_over: TakeOver) -> AsyncIterator[AsyncIterator[bytes]]:
        """Implements `execution.OpenArchive`. Raises `SourceOutOfReach`, and while it is read `LineBroken` and
        `SourceRefuses`.
        """
        reader, writer = await self._connected(take_over)
        try:
            writer.write(question(take_over.move_id))
            async with contextlib.aclosing(self._counted(take_over, archive_from(reader))) as chunks:
                yield chunks
        finally:
            writer.close()

    async def run(self) -> None:
        """For the whole life of the agent."""
        while True:
            driver = self._driver()
            if driver is not None and driver.capabilities.move:
                try:
                    await driver.clear_taken(self._moves)
                except Failure as failure:
                    log.info("leftovers of moves not looked for", error=str(failure))
            await self._clock.sleep(_TIDY_SECONDS)

    def _moves(self) -> set[str]:
        return {one.take_over.move_id for one in self._book.current.items.values() if one.take_over is not None}

    async def _counted(self, take_over: TakeOver, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        count, told_at = 0, self._clock.monotonic()
        async for chunk in chunks:
            yield chunk
            count += len(chunk)
            if self._clock.monotonic() - told_at >= _PROGRESS_SECONDS:
                told_at = self._clock.monotonic()
                self._reporter.report(MoveReport(take_over.move_id, copied_bytes=count))
        self._reporter.report(MoveReport(take_over.move_id, copied_bytes=count))

    async def _connected(self, take_over: TakeOver) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = member_client_context(self._identity_dir)
        tried: list[str] = []
        for address in take_over.addresses:
            host, _, port = address.rpartition(":")
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    reader, writer = await asyncio.open_connection(
                        host.strip("[]"), int(port), ssl=context, server_hostname="", limit=_READ_BYTES
                    )
            except (OSError, TimeoutError, ValueError) as error:
                tried.append(f"{address}: {error or 'no answer'}")
                continue
            answers = _who(writer)
            if answers == f"host {take_over.source_host_id}":
                return reader, writer
            writer.close()
            tried.append(f"{address}: {answers} answers")
        raise SourceOutOfReach(
            f"the host that has the instance is not reached from here ({'; '.join(tried)[:500]})",
            action="set listen_host on its agent, and let its port through",
            retry_after_seconds=2,
        )


def _who(writer: asyncio.StreamWriter) -> str:
    try:
        peer = peer_name(writer.get_extra_info("ssl_object"))
    except CertificateInvalid:
        return "nobody of ours"
    return f"{peer.kind} {peer.id}"
