"""HTTP to the control plane: one pool, deadlines on everything, jittered retries of what may be repeated, login kept
fresh.

Invariant: a failure leaves here as a `common.errors.Failure` that says what to do, never as a traceback of a library.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Retry, Timeout

from common.errors import Unauthenticated, Unavailable
from control_plane.cli.failures import failure_of
from control_plane.cli.settings import Credentials

# Reads and idempotent writes are repeated when the connection fails or the server says 502/503/504 (Retry-After is
# honoured).
_REPEAT = Retry(
    total=4,
    backoff_factor=0.3,
    backoff_jitter=0.3,
    backoff_max=5,
    status_forcelist=(502, 503, 504),
    allowed_methods=frozenset({"GET", "HEAD", "PUT", "DELETE"}),
    raise_on_status=False,
    redirect=3,
)


class Client:
    """`token` is an API key or access token given by hand; otherwise the kept login is used and refreshed when it ran
    out.
    """

    def __init__(self, server: str, token: str | None, credentials: Credentials) -> None:
        self.server = server.rstrip("/")
        self._token = token
        self._credentials = credentials
        self._kept = {} if token else credentials.tokens(self.server)
        self._pool = urllib3.PoolManager(timeout=Timeout(connect=5, read=60), retries=_REPEAT, maxsize=8)

    def get(self, path: str, **query: Any) -> Any:
        return self.call("GET", path, query=query)

    def post(self, path: str, body: Any = None) -> Any:
        return self.call("POST", path, body=body)

    def put(self, path: str, body: Any = None) -> Any:
        return self.call("PUT", path, body=body)

    def delete(self, path: str, **query: Any) -> Any:
        return self.call("DELETE", path, query=query)

    def call(self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        """The decoded JSON document, or None for an empty answer. Raises the failure that the answer means."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data is not None else {}
        answer = self.raw(method, path + _query(query), headers=headers, body=data)
        if answer.status >= 400:
            raise failure_of(answer.status, answer.data, f"{method} {path}")
        return json.loads(answer.data) if answer.data else None

    def every(self, path: str, **query: Any) -> list[Any]:
        """All rows of a paged list."""
        rows: list[Any] = []
        page = 1
        while True:
            document = self.get(path, **query, page=page, page_size=100)
            rows.extend(document["data"])
            if page >= document["pagination"]["total_pages"]:
                return rows
            page += 1

    def raw(
        self,
        method: str,
        path_or_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """One request with credentials; a 401 of an expired login is answered by one refresh and one repetition."""
        url = path_or_url if path_or_url.startswith(("http://", "https://")) else self.server + path_or_url

        def send() -> urllib3.BaseHTTPResponse:
            sent = {"Accept": "application/json", **(headers or {})}
            token = self._token or self._kept.get("access_token")
            # Credentials go to our server only, wherever an answer may point.
            if token and url.startswith(self.server + "/"):
                sent["Authorization"] = f"Bearer {token}"
            return self._pool.request(method, url, headers=sent, body=body, preload_content=not stream)

        answer = self._guarded(send)
        if answer.status == 401 and self._refresh():
            answer.drain_conn()
            answer = self._guarded(send)
        return answer

    def login(self, username: str, password: str) -> dict[str, Any]:
        data: dict[str, Any] = self.post("/api/v1/auth/login", {"username": username, "password": password})["data"]
        self._kept = {
            "access_token": data["access_token"],
            "refresh_token": data["refresh_token"],
            "username": username,
        }
        self._credentials.keep(self.server, self._kept)
        return data

    def logout(self) -> None:
        if self._kept.get("refresh_token"):
            self.post("/api/v1/auth/logout", {"refresh_token": self._kept["refresh_token"]})
        self._credentials.forget(self.server)

    def _refresh(self) -> bool:
        refresh = self._kept.get("refresh_token")
        if self._token or not refresh:
            return False
        body = json.dumps({"refresh_token": refresh}).encode()
        answer = self._guarded(
            lambda: self._pool.request(
                "POST",
                self.server + "/api/v1/auth/refresh",
                body=body,
                headers={"Content-Type": "application/json"},
            )
        )
        if answer.status >= 400:
            raise Unauthenticated("your login has ended", action="log in again with `longshore login`")
        data = json.loads(answer.data)["data"]
        self._kept = {**self._kept, "access_token": data["access_token"], "refresh_token": data["refresh_token"]}
        self._credentials.keep(self.server, self._kept)
        return True

    def _guarded(self, send: Callable[[], urllib3.BaseHTTPResponse]) -> urllib3.BaseHTTPResponse:
        try:
            return send()
        except HTTPError as error:
            raise Unavailable(
                f"the control plane at {self.server} does not answer ({type(error).__name__})",
                action="check the address (--server or LONGSHORE_SERVER) and that it runs",
            ) from error


def _query(query: Mapping[str, Any] | None) -> str:
    present = {key: value for key, value in (query or {}).items() if value is not None}
    return "?" + urlencode(present) if present else ""
