"""What both listeners share: one log line and one count per request, failures as problem documents, and binding.

Invariant: no log line holds a token: queries are left out, and paths that carry one are logged by their pattern.
"""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Middleware

from common.clock import Clock
from common.errors import Failure, Internal, NotFound, Unavailable
from regional.metrics import Metrics
from regional.problems import problem, status_of
from regional.sending import SENT_BYTES

log = structlog.get_logger()

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_LONG_WORD = re.compile(r"[A-Za-z0-9_-]{40,}")
_KEEPALIVE_SECONDS = 75.0
_SHUTDOWN_SECONDS = 3.0
# Routes that many clients call all the time: counted, and logged only for those who debug.
_QUIET = frozenset({"/announce", "/healthz", "/metrics", "/content/v1/{digest}/lease"})


class ListenFailed(Unavailable):
    code = "listen_failed"


# Told each answer: client, path, status, bytes.
Served = Callable[[str, str, int, int], None]


def nobody_asks(_client: str, _path: str, _status: int, _sent: int) -> None:
    return


def watch(clock: Clock, metrics: Metrics, served: Served = nobody_asks) -> Middleware:
    """The one middleware. `served` must neither wait nor raise."""

    @web.middleware
    async def middleware(request: web.Request, handler: _Handler) -> web.StreamResponse:
        began = clock.monotonic()
        route = _route(request)
        response = await _answered(request, handler, route)
        metrics.requests.labels(route, str(response.status)).inc()
        sent = request.get(SENT_BYTES, 0)
        if sent:
            metrics.sent.labels(route).inc(sent)
        served(request.remote or "", request.rel_url.raw_path, response.status, sent)
        write = log.debug if route in _QUIET else log.info
        write(
            "request served",
            method=request.method,
            path=_shown(request, route)[:300],
            status=response.status,
            bytes=sent,
            milliseconds=round((clock.monotonic() - began) * 1000, 1),
            client=request.remote,
            agent=request.headers.get("User-Agent", "")[:100],
        )
        return response

    return middleware


async def _answered(request: web.Request, handler: _Handler, route: str) -> web.StreamResponse:
    path = _shown(request, route)
    try:
        return await handler(request)
    except Failure as failure:
        # 503 is said to whoever asked and mends itself; 500 is ours to look at.
        if status_of(failure) >= 500:
            write = log.info if isinstance(failure, Unavailable) else log.error
            write("request failed", path=path[:300], error=str(failure))
        return problem(failure, path)
    except web.HTTPNotFound:
        return problem(NotFound("there is no such path", action="see docs/architecture.md for the routes"), path)
    except web.HTTPException as answer:
        # A redirect, or the router's 405: an answer that travels as an exception.
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
    except Exception:
        log.exception("request broke", path=path[:300])
        return problem(Internal("a defect ended this request", action="report it with the regional's log"), path)


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"


def _shown(request: web.Request, route: str) -> str:
    """Its path, without the token that may stand in it; where no route knows the path, any word that could be one."""
    if "token" in request.match_info:
        return route
    path = request.rel_url.raw_path
    return path if request.match_info.route.resource is not None else _LONG_WORD.sub("...", path)


class _Relayed(logging.Handler):
    """What aiohttp itself says. Bytes that are no HTTP, and clients that go, are nobody's failure: who debugs sees
    them, without a trace.
    """

    def emit(self, record: logging.LogRecord) -> None:
        failure = record.exc_info[1] if record.exc_info else None
        if isinstance(failure, HttpProcessingError):
            log.debug("not HTTP", error=str(failure)[:200])
        elif isinstance(failure, ConnectionError):
            log.debug("client gone", error=str(failure)[:200])
        else:
            log.error("the HTTP server failed", said=record.getMessage()[:200], exc_info=failure)


def _server_log() -> logging.Logger:
    found = logging.Logger("aiohttp.server", logging.INFO)
    found.addHandler(_Relayed())
    return found


@asynccontextmanager
async def listening(
    app: web.Application, host: str, port: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve until the context is left; gives the port. Raises `ListenFailed`."""
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=_KEEPALIVE_SECONDS,
        shutdown_timeout=_SHUTDOWN_SECONDS,
        logger=_server_log(),
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=tls, backlog=512)
        try:
            await site.start()
        except OSError as error:
            raise ListenFailed(
                f"{host}:{port} cannot be listened on: {error.strerror or error}",
                action="choose another port or --server-ip, or stop what listens there",
            ) from error
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
