"""The WebSocket `/api/v1/machines/live`: each message is one JSON object.

`{"type": "event", "topic": "machines.install_changed", ...}` with what the messages of this domain hold, or
`{"type": "resync"}`: something was missed, ask the lists again. The server sends, and takes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NoReturn

from fastapi import APIRouter, WebSocket
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketDisconnect

from common.errors import Failure
from common.failure_groups import first_of
from control_plane.machines.live import Live, View
from control_plane.tenants.access import Principal
from control_plane.tenants.principals import Authenticator
from control_plane.tenants.sockets import check_origin, credentials_in
from control_plane.web.addresses import client_of
from control_plane.web.errors import ProblemResponse, Refused, headers_of, problem_of, status_of

# A browser that names its credentials as a sub-protocol must be answered with one that it offered.
_PROTOCOL = "longshore.live.v1"
_FAILED = 1011


class _Left(Exception):
    """The client hung up."""


def add_live(router: APIRouter, live: Live, public_url: str | None, refused: Refused) -> None:
    @router.websocket("/live")
    async def watch(socket: WebSocket) -> None:
        again = _again(socket)
        try:
            check_origin(socket, public_url)
            principal = socket.scope["longshore.principal"] = await again()
            async with live.view(principal) as view:
                offered = socket.scope.get("subprotocols", ())
                await socket.accept(subprotocol=_PROTOCOL if _PROTOCOL in offered else None)
                await _show(socket, live, view, again)
        except Failure as failure:
            await refused(socket.scope, failure)
            answer = ProblemResponse(problem_of(failure, socket.url.path), status_of(failure), headers_of(failure))
            await socket.send_denial_response(answer)


async def _show(socket: WebSocket, live: Live, view: View, again: Callable[[], Awaitable[Principal]]) -> None:
    """Until the client hangs up, or may not look any more."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_send(socket, view))
            group.create_task(_until_gone(socket))
            group.create_task(live.check_forever(view, again))
    except* (_Left, WebSocketDisconnect):
        pass
    except* Failure as failures:
        failure = first_of(failures)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await socket.send_json({"type": "error", "code": failure.code, "detail": failure.detail})
            await socket.close(_FAILED, failure.code)


async def _send(socket: WebSocket, view: View) -> NoReturn:
    while True:
        await socket.send_json(dict(await view.next()))


async def _until_gone(socket: WebSocket) -> NoReturn:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass  # What a client says here means nothing.
    raise _Left


def _again(connection: HTTPConnection) -> Callable[[], Awaitable[Principal]]:
    authenticator: Authenticator = connection.app.state.authenticator
    credentials, client = credentials_in(connection), client_of(connection)
    return lambda: authenticator.authenticate(credentials, client)
