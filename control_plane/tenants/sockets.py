"""Who may open a WebSocket, and in whose name.

Invariants: a page of another site cannot open one with a visitor's browser, and credentials are never part of an
address (they would end up in logs).
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from common.errors import Denied
from control_plane.tenants.principals import credentials_of

# Browsers cannot send an Authorization header with a WebSocket, but they can name sub-protocols.
_BEARER = "longshore.bearer."


class OriginRefused(Denied):
    """A page of another site opened a WebSocket with a visitor's browser."""

    code = "origin_refused"


def credentials_in(connection: HTTPConnection) -> str | None:
    """The `Authorization` header, or what a sub-protocol says in its place."""
    found = credentials_of(connection)
    if found is not None:
        return found
    for name in connection.scope.get("subprotocols", ()):
        if name.startswith(_BEARER):
            return f"Bearer {name.removeprefix(_BEARER)}"
    return None


def check_origin(connection: HTTPConnection, public_url: str | None) -> None:
    """Raises `OriginRefused`. Only browsers send an `Origin`; it must be our own."""
    origin = connection.headers.get("origin")
    if origin is None:
        return
    own = {connection.headers.get("host", "").lower()}
    if public_url is not None:
        own.add(urlsplit(public_url).netloc.lower())
    found = urlsplit(origin)
    if found.scheme not in ("http", "https") or found.netloc.lower() not in own:
        raise OriginRefused(f"a page of {origin[:120]} may not open WebSockets", action="open them from our own pages")
