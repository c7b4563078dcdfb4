"""Who a request speaks for, for the routes of every domain. `http_api` puts an `Authenticator` into
`app.state.authenticator`.

Invariant: credentials that are sent and wrong are refused (`Unauthenticated`), never taken for none; only a request
without any is anonymous. Each request is authenticated at most once.
"""

from __future__ import annotations

from typing import Annotated, Protocol

from fastapi import Depends
from starlette.requests import HTTPConnection

from control_plane.tenants.access import Principal
from control_plane.web.addresses import client_of


class Authenticator(Protocol):
    """Turns an `Authorization` header into a principal."""

    async def authenticate(self, authorization_header: str | None, client: str = "") -> Principal:
        """The anonymous principal for None. `client` is what failed tries are counted by (`client_of`).

        Raises `Unauthenticated` for wrong credentials and `RateLimited` after too many of them.
        """
        ...


def credentials_of(connection: HTTPConnection) -> str | None:
    """The `Authorization` header, or what `X-API-Key` would be as one."""
    authorization = connection.headers.get("authorization")
    if authorization is not None:
        return authorization
    key = connection.headers.get("x-api-key")
    return None if key is None else f"Bearer {key}"


# HTTPConnection rather than Request: FastAPI gives it to WebSocket routes as well.
async def principal_of(request: HTTPConnection) -> Principal:
    """Raises `Unauthenticated`, `RateLimited`."""
    known: Principal | None = request.scope.get("longshore.principal")
    if known is not None:
        return known
    authenticator: Authenticator = request.app.state.authenticator
    principal = await authenticator.authenticate(credentials_of(request), client_of(request))
    request.scope["longshore.principal"] = principal
    return principal


CurrentPrincipal = Annotated[Principal, Depends(principal_of)]
