"""What was asked and how it went: a log line with a request id, and counters by class of route. Pure ASGI.

Also the last catch for what nobody foresaw: it is logged once, here, and answered with a bare 500. Content routes
(/v2, /content) are counted but not logged unless they fail, because a pull is thousands of requests, and logging costs
more than serving a manifest from memory does.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.clock import Clock
from control_plane.web.errors import answer_unexpected
from control_plane.web.origin import bind, release, request_id_of

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RouteClass:
    """Paths that start with `prefix` are counted as `name`; a quiet class is logged only when it fails."""

    prefix: str
    name: str
    quiet: bool = False


# The first match counts. A short fixed list: a label per path would let any client grow our memory.
ROUTE_CLASSES = (
    RouteClass("/v2/", "registry", quiet=True),
    RouteClass("/content/", "content", quiet=True),
    RouteClass("/api/v1/auth/", "auth"),
    RouteClass("/api/", "api"),
    RouteClass("/healthz", "probe", quiet=True),
    RouteClass("/readyz", "probe", quiet=True),
    RouteClass("/metrics", "probe", quiet=True),
)
_OTHER = RouteClass("", "other")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class HttpMetrics:
    """One per process, in the registry that /metrics shows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "control_plane_http_requests",
            "HTTP requests by class of route, method and status.",
            ("route", "method", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "control_plane_http_request_seconds",
            "Seconds until a request was answered in full, by class of route.",
            ("route",),
            registry=registry,
            buckets=_BUCKETS,
        )
        # labels() takes a lock and builds a tuple of strings each time; both families are small, so keep the children.
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._histograms: dict[str, Histogram] = {}

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        key = (route, method, status)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._requests.labels(route, method, str(status))
        counter.inc()
        histogram = self._histograms.get(route)
        if histogram is None:
            histogram = self._histograms[route] = self._seconds.labels(route)
        histogram.observe(seconds)


class AccessLog:
    """Put it in front of everything: `app.add_middleware(AccessLog, clock=..., metrics=...)`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        clock: Clock,
        metrics: HttpMetrics,
        classes: tuple[RouteClass, ...] = ROUTE_CLASSES,
    ) -> None:
        self._app = app
        self._clock = clock
        self._metrics = metrics
        self._classes = classes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        token = bind(scope)
        try:
            await self._logged(scope, receive, send)
        finally:
            release(token)

    async def _logged(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = self._class_of(scope["path"])
        if route.quiet:
            await self._measured(scope, receive, send, route, "")
            return
        request_id = request_id_of(scope)
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._measured(scope, receive, send, route, request_id)

    def _class_of(self, path: str) -> RouteClass:
        for route in self._classes:
            if path.startswith(route.prefix):
                return route
        return _OTHER

    async def _measured(self, scope: Scope, receive: Receive, send: Send, route: RouteClass, request_id: str) -> None:
        started = self._clock.monotonic()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])  # an HTTPStatus would be logged by its name
                if request_id:
                    MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if status:
                # The answer is half sent: only a broken connection tells the client so.
                log.error("answer broken off", path=scope["path"], method=scope["method"], exc_info=error)
                raise
            await answer_unexpected(Request(scope), error)(scope, receive, watched)
        finally:
            self._record(scope, route, status, self._clock.monotonic() - started)

    def _record(self, scope: Scope, route: RouteClass, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        # 499: the client went away before an answer began (nginx's number for it).
        self._metrics.observe(route.name, method, status or 499, seconds)
        if route.quiet and status < 500:
            return
        principal = scope.get("longshore.principal")
        log.info(
            "request answered",
            route=route.name,
            method=method,
            path=scope["path"],
            status=status or 499,
            seconds=round(seconds, 6),
            client=scope["client"][0] if scope.get("client") else None,
            user=principal.name if principal is not None else None,
        )
