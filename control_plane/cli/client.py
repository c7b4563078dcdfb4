"""HTTP to the control plane: one pool, deadlines on everything, jittered retries of what may be repeated, login kept
fresh.

Invariant: a failure leaves here as a `common.errors.Failure` that says what to do, never as a traceback of a library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Retry, Timeout

from common.errors import Invalid, Unauthenticated, Unavailable
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
        if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", server):
            raise Invalid(f"{server!r} is not the URL of a server", action="write http://host:port or https://host")
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
        return _document(answer, self.server)

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
        read_seconds: float | None = 60,
    ) -> urllib3.BaseHTTPResponse:
        """One request with credentials; a 401 of an expired login is answered by one refresh and one repetition.
        `read_seconds`: how long nothing may come; None: for ever.
        """
        url = path_or_url if path_or_url.startswith(("http://", "https://")) else self.server + path_or_url

        def send() -> urllib3.BaseHTTPResponse:
            sent = {"Accept": "application/json", **(headers or {})}
            # Credentials go to our server only, wherever an answer may point.
            if url.startswith(self.server + "/"):
                sent |= self.authorization
            timeout = Timeout(connect=5, read=read_seconds)
            return self._pool.request(method, url, headers=sent, body=body, preload_content=not stream, timeout=timeout)

        answer = self._guarded(send)
        if answer.status == 401 and self._refresh():
            answer.drain_conn()
            answer = self._guarded(send)
        return answer

    @property
    def authorization(self) -> dict[str, str]:
        """The header that says who asks, for connections that are not made here. After a request it is fresh."""
        token = self._token or self._kept.get("access_token")
        return {"Authorization": f"Bearer {token}"} if token else {}

    def login(self, username: str, password: str) -> dict[str, Any]:
        # An older login must neither be sent nor refreshed: a wrong password has to say so.
        self._kept, self._token = {}, None
        data: dict[str, Any] = self.post("/api/v1/auth/login", {"username": username, "password": password})["data"]
        self._kept = {
            "access_token": data["access_token"],
            "refresh_token": data["refresh_token"],
            "username": username,
        }
        self._credentials.keep(self.server, self._kept)
        return data

    def logout(self) -> None:
        """Forgotten here even if the server cannot be told; that failure is raised then."""
        kept = self._credentials.forget(self.server)
        self._kept, self._token = {}, None
        self.post("/api/v1/auth/logout", {"refresh_token": kept["refresh_token"]})

    def _refresh(self) -> bool:
        if self._token or not self._kept.get("refresh_token"):
            return False
        # A refresh token works once, and using it twice ends the login: commands that run side by side take turns, and
        # who comes second takes what the first one got.
        with self._credentials.locked():
            newest = self._credentials.tokens(self.server)
            if newest and newest != self._kept:
                self._kept = newest
            else:
                self._exchange()
        return True

    def _exchange(self) -> None:
        body = json.dumps({"refresh_token": self._kept["refresh_token"]}).encode()
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
        data = _document(answer, self.server)["data"]
        self._kept = {**self._kept, "access_token": data["access_token"], "refresh_token": data["refresh_token"]}
        self._credentials.keep(self.server, self._kept)

    def _guarded(self, send: Callable[[], urllib3.BaseHTTPResponse]) -> urllib3.BaseHTTPResponse:
        try:
            return send()
        except HTTPError as error:
            raise Unavailable(
                f"the control plane at {self.server} does not answer ({type(error).__name__})",
                action="check the address (--server or LONGSHORE_SERVER) and that it runs",
            ) from error


def path_of(name: str) -> str:
    """`name` as part of a path; what is no name (a `?`, a `..`) stays inside it."""
    parts = [quote(part, safe="") for part in name.split("/")]
    if not name or any(part in ("", ".", "..") for part in parts):
        raise Invalid(f"{name!r} is not a name", action="see the names with the command `list`")
    return "/".join(parts)


def _document(answer: urllib3.BaseHTTPResponse, server: str) -> Any:
    try:
        return json.loads(answer.data) if answer.data else None
    except ValueError:
        raise Invalid(
            f"what answers at {server} is not a Longshore control plane", action="check --server or LONGSHORE_SERVER"
        ) from None


def _query(query: Mapping[str, Any] | None) -> str:
    present = {key: value for key, value in (query or {}).items() if value is not None}
    return "?" + urlencode(present, doseq=True) if present else ""
