"""What is asked most goes straight to its own application, everything else to the API.

The API's framework puts seven layers around every route (40 us of CPU, measured); a pull of a small image is seven
requests that need none of them.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class Front:
    """HTTP requests for `prefix` and for what lies beneath it go to `hot`; lifespan and all others to `api`."""

    def __init__(self, api: ASGIApp, prefix: str, hot: ASGIApp) -> None:
        self._api = api
        self._prefix = prefix
        self._beneath = f"{prefix}/"
        self._hot = hot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and (path.startswith(self._beneath) or path == self._prefix):
            await self._hot(scope, receive, send)
        else:
            await self._api(scope, receive, send)
