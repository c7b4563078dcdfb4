"""Questions and orders to LXD over its socket: pylxd in a few threads, and natively what lasts.

A question is answered at once or LXD is hung, so pylxd's blocking requests stay short and few threads do. What may take
minutes (operations, imports, exports, commands) is waited for by the event loop on the same socket: there a deadline is
of the whole and not of one read, and whoever is cancelled leaves no thread behind. pylxd's own wait has neither.

Words: LXD answers "sync" with metadata, or "async" with the path of an operation (rest-api.md of its documentation).
Failures become ours here: `Missing` for 404, `EngineAway`, `EngineRefused`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import requests
from pylxd import Client
from pylxd.exceptions import ClientConnectionFailed, Conflict, LXDAPIException
from pylxd.exceptions import NotFound as LxdNotFound

from agent.runtimes.failures import EngineAway, EngineRefused
from common.errors import NotFound

T = TypeVar("T")

QUESTION_SECONDS = 10.0
WORK_SECONDS = 180.0
# LXD waits for its own database before it answers an order: a renamed image alias took 10 s in every try (LXD 5.0).
_ORDER_FACTOR = 3
_THREADS = 6
# What LXD says while it starts, stops or has lost its database.
_HALF_ALIVE = re.compile(
    r"(LXD|daemon) is (shutting down|starting up|not (yet )?ready)|database is (locked|closed)"
    r"|context (canceled|deadline exceeded)|connection refused|busy running a",
    re.IGNORECASE,
)
_SUCCESS = 200
_RUNNING = range(100, 200)


class Missing(NotFound):
    """LXD has no such object."""

    code = "lxd_object_missing"


class AlreadyThere(EngineRefused):
    """LXD has an object of that name."""


class LxdCalls:
    """`socket`: path of LXD's unix socket. Deadlines in seconds."""

    def __init__(
        self, socket: str, *, question_seconds: float = QUESTION_SECONDS, work_seconds: float = WORK_SECONDS
    ) -> None:
        self.socket = socket
        self.work_seconds = work_seconds
        self._question_seconds = question_seconds
        self._order_seconds = question_seconds * _ORDER_FACTOR
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="lxd")
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._http: aiohttp.ClientSession | None = None

    async def get(self, *path: str, **parameters: str | int) -> Any:
        """The metadata of the object at `/1.0/` and these names."""
        seconds = self._question_seconds

        def ask(client: Client) -> Any:
            return _node(client, path).get(params=dict(parameters), timeout=seconds).json()["metadata"]

        return await self._in_thread(ask)

    async def send(
        self, method: str, *path: str, body: Mapping[str, Any] | None = None, seconds: float | None = None
    ) -> dict[str, Any]:
        """POST, PUT, PATCH or DELETE, and what comes of it: of an operation, the end. `seconds`: instead of the usual
        deadline for work.
        """
        operation = await self.begin(method, *path, body=body)
        return await self.outcome(operation, seconds or self.work_seconds) if operation else {}

    async def begin(self, method: str, *path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The operation that this order began, as LXD shows it; empty if all is done already."""
        seconds = self._order_seconds

        def order(client: Client) -> dict[str, Any]:
            act = getattr(_node(client, path), method.lower())
            answer = (act(timeout=seconds) if body is None else act(json=dict(body), timeout=seconds)).json()
            return dict(answer["metadata"]) if answer.get("type") == "async" else {}

        return await self._in_thread(order)

    async def outcome(self, operation: Mapping[str, Any], seconds: float | None) -> dict[str, Any]:
        """Metadata of the operation at its end. Raises `EngineRefused` with LXD's words if it failed, `EngineAway` if
        it does not end within `seconds` (None: however long it takes).
        """
        path = f"/1.0/operations/{operation['id']}/wait"
        with self._natively():
            async with asyncio.timeout(seconds):
                async with self.http().get(f"http://lxd{path}", timeout=_UNLIMITED) as answer:
                    body = await answer.json()
        if answer.status != _SUCCESS:
            raise EngineAway("LXD forgot what it was doing", action="it is tried again", retry_after_seconds=2)
        state = body["metadata"]
        if state["status_code"] in _RUNNING:
            raise _away("LXD stopped while it was at work")
        if state["status_code"] != _SUCCESS:
            raise failure_of(str(state.get("err") or state["status"]))
        return dict(state.get("metadata") or {})

    def http(self) -> aiohttp.ClientSession:
        """To LXD's socket, natively; URLs begin with `http://lxd/1.0/`."""
        if self._http is None:
            connector = aiohttp.UnixConnector(self.socket, limit=0)
            self._http = aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=_UNLIMITED)
        return self._http

    async def read(self, *path: str, **parameters: str) -> bytes:
        """The few bytes at `/1.0/` and these names."""
        with self._natively():
            async with asyncio.timeout(self._question_seconds):
                async with self.http().get(url_of(path), params=parameters) as answer:
                    if answer.status != _SUCCESS:
                        raise _refusal_of(answer.status, await answer.text())
                    return await answer.read()

    @contextlib.asynccontextmanager
    async def stream(self, *path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The many bytes at `/1.0/` and these names."""
        async with contextlib.AsyncExitStack() as stack:
            with self._natively():
                async with asyncio.timeout(self._order_seconds):
                    answer = await stack.enter_async_context(self.http().get(url_of(path)))
                    if answer.status != _SUCCESS:
                        raise _refusal_of(answer.status, await answer.text())
            yield self._chunks(answer.content)

    async def _chunks(self, content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
        while True:
            with self._natively():
                async with asyncio.timeout(self._order_seconds):
                    chunk = await content.readany()
            if not chunk:
                return
            yield chunk

    async def post_bytes(self, *path: str, data: Any, headers: Mapping[str, str], seconds: float) -> dict[str, Any]:
        """Send bytes; the operation that LXD began with them."""
        with self._natively():
            async with asyncio.timeout(seconds), self.http().post(url_of(path), data=data, headers=headers) as answer:
                text = await answer.text()
                if answer.status not in (200, 202):
                    raise _refusal_of(answer.status, text)
                return dict(json.loads(text)["metadata"])

    async def websocket(self, operation_id: str, secret: str) -> aiohttp.ClientWebSocketResponse:
        url = f"http://lxd/1.0/operations/{quote(operation_id)}/websocket?secret={quote(secret)}"
        with self._natively():
            async with asyncio.timeout(self._question_seconds):
                # LXD sends nothing for as long as a command is silent: no heartbeat, no limit to the silence.
                return await self.http().ws_connect(url, autoping=False, max_msg_size=0)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._forget()
        if self._http is not None:
            await self._http.close()

    @contextlib.contextmanager
    def _natively(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise _away("LXD does not answer in time") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _away(f"LXD does not answer at {self.socket}: {type(error).__name__}") from error

    async def _in_thread(self, call: Callable[[Client], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._translated, call)

    def _translated(self, call: Callable[[Client], T]) -> T:
        try:
            return call(self._connected())
        except LxdNotFound as error:
            raise Missing(f"LXD: {_words(error)}", action="look at it again") from error
        except Conflict as error:
            raise AlreadyThere(f"LXD: {_words(error)}", action="use another name, or what is there") from error
        except LXDAPIException as error:
            raise failure_of(_words(error)) from error
        except (requests.RequestException, ClientConnectionFailed, OSError, ValueError, KeyError) as error:
            self._forget()
            raise _away(f"LXD does not answer at {self.socket}: {type(error).__name__}") from error

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = Client(f"http+unix://{quote(self.socket, safe='')}", timeout=self._question_seconds)
            return self._client

    def _forget(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.api.session.close()


_UNLIMITED = aiohttp.ClientTimeout(total=None, sock_connect=QUESTION_SECONDS)


def url_of(path: tuple[str, ...]) -> str:
    return "http://lxd/1.0/" + "/".join(quote(part, safe="") for part in path)


def _node(client: Client, path: tuple[str, ...]) -> Any:
    node = client.api
    for part in path:
        node = node[quote(part, safe="")]  # pylxd puts it into the URL as it is
    return node


def _words(error: LXDAPIException) -> str:
    return str(error)[:1000]


def _refusal_of(status: int, text: str) -> Exception:
    found = re.search(r'"error":\s*"([^"]*)"', text)
    words = found[1] if found else text[:300]
    return Missing(f"LXD: {words}") if status == 404 else failure_of(words)


def _away(what: str) -> EngineAway:
    return EngineAway(what, action="start or restart LXD; it is tried again", retry_after_seconds=2)


def failure_of(words: str) -> EngineAway | EngineRefused:
    """What LXD's words about a request mean."""
    if _HALF_ALIVE.search(words):
        return EngineAway(f"LXD is not ready: {words[:300]}", action="it is tried again", retry_after_seconds=2)
    # The last is its database's, about two imports of one image that ended together (5.0.2).
    if any(sign in words for sign in ("already exists", "already in use", "UNIQUE constraint failed")):
        return AlreadyThere(f"LXD: {words[:1000]}", action="use another name, or what is there")
    return EngineRefused(f"LXD refused: {words[:1000]}", action="change the instance, or free what it needs")
