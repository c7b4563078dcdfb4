"""`/api/v1/instances/{id}/export`: all of an instance as one archive, straight from its host and kept nowhere else.

Invariant: an answer that ended in good order is whole. What ends it otherwise breaks the connection off, so that no
client takes a part for the whole.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, NoReturn

import structlog
from fastapi import APIRouter, Query, Request, Response
from starlette.types import Receive, Scope, Send

from control_plane.channels.answers import Finished, again_of, give_up, until_gone
from control_plane.channels.lines import Line
from control_plane.channels.model import Ended, ExportWanted, InputTaken, Piece
from control_plane.channels.service import ChannelService
from control_plane.tenants.principals import CurrentPrincipal

log = structlog.get_logger()

# What is refused at once is an answer of its own. LXD may write for minutes before there is anything to send, and no
# proxy waits that long for the first byte of an answer.
_FIRST_WORD_SECONDS = 10.0
_Snapshots = Annotated[bool, Query(description="with its snapshots, if its engine has any")]
_EXPORT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A tar archive: of Docker its file system, of LXD a backup that `lxc import` takes. Its length "
        "is not known before its end; a connection that breaks off is a failure.",
        "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def build_router(service: ChannelService) -> APIRouter:
    router = APIRouter(prefix="/api/v1/instances", tags=["instances"])

    @router.get("/{instance_id}/export", response_class=Response, responses=_EXPORT)
    async def export(
        request: Request, principal: CurrentPrincipal, instance_id: str, snapshots: _Snapshots = False
    ) -> Response:
        """The whole instance. Of one that runs the archive is of no one moment: stop it first, or take a snapshot."""
        return _ExportResponse(service.open(principal, instance_id, ExportWanted(snapshots), again_of(request)))

    return router


class _Broken(Exception):
    """The host could not finish."""


class _ExportResponse(Response):
    """Opens the channel when it is called, so that a refusal is still an answer of its own."""

    def __init__(self, opening: AbstractAsyncContextManager[Line]) -> None:
        super().__init__()
        self._opening = opening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._opening as line:
            reading = asyncio.ensure_future(line.read())
            try:
                await asyncio.wait([reading], timeout=_FIRST_WORD_SECONDS)
                if reading.done() and isinstance(word := reading.result(), Ended) and word.failure is not None:
                    raise word.failure
                await self._answer(line, reading, receive, send)
            finally:
                reading.cancel()

    async def _answer(
        self, line: Line, first: asyncio.Future[Piece | InputTaken | Ended], receive: Receive, send: Send
    ) -> None:
        headers = [
            (b"content-type", b"application/x-tar"),
            (b"content-disposition", b'attachment; filename="instance.tar"'),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
            (b"x-content-type-options", b"nosniff"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_send(line, first, send))
                group.create_task(until_gone(receive))
                group.create_task(give_up(line))
        except* Finished:
            pass
        except* _Broken:
            # Returning without the last part is how a server is told to break the connection off.
            log.warning("an export broke off", channel=line.id)


async def _send(line: Line, first: asyncio.Future[Piece | InputTaken | Ended], send: Send) -> NoReturn:
    word = await first
    while True:
        if isinstance(word, Piece):
            await send({"type": "http.response.body", "body": word.data, "more_body": True})
            await line.taken(len(word.data))
        elif isinstance(word, Ended):
            if word.failure is not None:
                raise _Broken
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            raise Finished
        word = await line.read()
