"""`/api/v1/instances/{id}/logs`, and the WebSockets `/exec` and `/console` beside it."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, Literal, NoReturn

from fastapi import APIRouter, Query, Request, Response, WebSocket
from pydantic import AwareDatetime
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from common.clock import Clock
from common.errors import Failure
from control_plane.channels.answers import Finished, again_of, give_up, until_gone
from control_plane.channels.formats import NDJSON, JsonLogs, LogFormat, TextLogs, prefers_ndjson
from control_plane.channels.frames import ConsoleStart, ExecStart
from control_plane.channels.lines import Line
from control_plane.channels.model import Ended, LogsWanted, Piece
from control_plane.channels.service import ChannelService
from control_plane.channels.sockets import Pump, finish, started
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.tenants.sockets import check_origin
from control_plane.web.errors import ProblemResponse, Refused, headers_of, problem_of, status_of

_Follow = Annotated[bool, Query(description="go on until the container ends")]
_Since = Annotated[AwareDatetime | None, Query(description="only what was written at or after")]
_Tail = Annotated[int | None, Query(description="at most so many last lines", ge=0, le=1_000_000)]
_Timestamps = Annotated[bool, Query(description="of text: each line begins with its time")]
_Marked = Annotated[bool, Query(description="of text: each line begins with stdout or stderr")]
_Stream = Annotated[Literal["both", "stdout", "stderr"], Query(description="which of the two outputs")]
_LOGS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": f"Text as it was written, or with `Accept: {NDJSON}` one object a piece with `stream`, `time` "
        "and `text`, and a last one with `end`. Both are sent while they come.",
        "content": {"text/plain": {"schema": {"type": "string"}}, NDJSON: {"schema": {"type": "string"}}},
    }
}


def build_router(service: ChannelService, clock: Clock, public_url: str | None, refused: Refused) -> APIRouter:
    """`refused` is told of what WebSockets are refused for: the error handlers see requests only."""
    router = APIRouter(prefix="/api/v1/instances", tags=["instances"])

    @router.get("/{instance_id}/logs", response_class=Response, responses=_LOGS)
    async def logs(
        request: Request,
        principal: CurrentPrincipal,
        instance_id: str,
        follow: _Follow = False,
        since: _Since = None,
        tail: _Tail = None,
        timestamps: _Timestamps = False,
        marked: _Marked = False,
        stream: _Stream = "both",
    ) -> Response:
        """What an instance wrote. It comes from its host as it is read, and is kept nowhere else."""
        since_ns = 0 if since is None else max(0, int(since.timestamp() * 1_000_000) * 1000)
        wanted = LogsWanted(follow, since_ns, tail, output=stream != "stderr", errors=stream != "stdout")
        ndjson = prefers_ndjson(request.headers.get("accept", ""))
        shape: LogFormat = JsonLogs() if ndjson else TextLogs(timestamps=timestamps, marked=marked)
        return _LogResponse(service.open(principal, instance_id, wanted, again_of(request)), shape)

    @router.websocket("/{instance_id}/exec")
    async def exec_(socket: WebSocket, instance_id: str) -> None:
        await _converse(service, clock, public_url, refused, socket, instance_id, ExecStart)

    @router.websocket("/{instance_id}/console")
    async def console(socket: WebSocket, instance_id: str) -> None:
        await _converse(service, clock, public_url, refused, socket, instance_id, ConsoleStart)

    return router


async def _converse(
    service: ChannelService,
    clock: Clock,
    public_url: str | None,
    refused: Refused,
    socket: WebSocket,
    instance_id: str,
    kind: type[ExecStart] | type[ConsoleStart],
) -> None:
    again = again_of(socket)
    try:
        check_origin(socket, public_url)
        principal = socket.scope["longshore.principal"] = await again()
        await service.admit(principal, instance_id)
    except Failure as failure:
        await refused(socket.scope, failure)
        answer = ProblemResponse(problem_of(failure, socket.url.path), status_of(failure), headers_of(failure))
        await socket.send_denial_response(answer)
        return
    try:
        start = await started(socket, kind)
        async with service.open(principal, instance_id, start.wanted(), again) as line:
            await Pump(socket, line, start.window, clock).run()
    except WebSocketDisconnect:
        return
    except Failure as failure:
        await refused(socket.scope, failure)
        await finish(socket, failure)


class _LogResponse(Response):
    """Opens the channel when it is called, so that a refusal is still an answer of its own."""

    def __init__(self, opening: AbstractAsyncContextManager[Line], shape: LogFormat) -> None:
        super().__init__()
        self._opening = opening
        self._shape = shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._opening as line:
            headers = [
                (b"content-type", self._shape.media_type.encode()),
                (b"cache-control", b"no-store"),
                (b"x-accel-buffering", b"no"),  # nginx would hold back what is followed
                (b"x-content-type-options", b"nosniff"),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            # Whoever follows learns at once that it works, also while nothing is written.
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._send(line, send))
                    group.create_task(until_gone(receive))
                    group.create_task(give_up(line))
            except* Finished:
                pass

    async def _send(self, line: Line, send: Send) -> NoReturn:
        while True:
            word = await line.read()
            if isinstance(word, Piece):
                await send({"type": "http.response.body", "body": self._shape.piece(word), "more_body": True})
                await line.taken(len(word.data))
            elif isinstance(word, Ended):
                await send({"type": "http.response.body", "body": self._shape.end(word), "more_body": False})
                raise Finished
