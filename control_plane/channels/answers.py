"""What answers over HTTP share that last as long as a channel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn

from starlette.requests import HTTPConnection
from starlette.types import Receive

from control_plane.channels.lines import Line
from control_plane.tenants.access import Principal
from control_plane.tenants.principals import Authenticator
from control_plane.tenants.sockets import credentials_in
from control_plane.web.addresses import client_of


class Finished(Exception):
    """Everything was sent, or nobody takes it."""


def again_of(connection: HTTPConnection) -> Callable[[], Awaitable[Principal]]:
    """Asks who speaks, once more."""
    authenticator: Authenticator = connection.app.state.authenticator
    credentials, client = credentials_in(connection), client_of(connection)
    return lambda: authenticator.authenticate(credentials, client)


async def until_gone(receive: Receive) -> NoReturn:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise Finished


async def give_up(line: Line) -> NoReturn:
    await line.until_abandoned()
    raise Finished
