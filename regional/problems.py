"""Every deliberate failure as an HTTP answer: the one table of this service (RFC 9457 problem details)."""

from __future__ import annotations

import json
import math
from http import HTTPStatus

from aiohttp import web

from common.byte_ranges import RangeUnsatisfiable
from common.errors import (
    Conflict,
    Denied,
    Failure,
    Internal,
    Invalid,
    NotFound,
    QuotaExceeded,
    RateLimited,
    Stale,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

# The nearest class in a failure's ancestry decides, so a subclass may have its own row.
_STATUS: dict[type[Failure], HTTPStatus] = {
    RangeUnsatisfiable: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    Invalid: HTTPStatus.BAD_REQUEST,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Denied: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Stale: HTTPStatus.CONFLICT,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    QuotaExceeded: HTTPStatus.FORBIDDEN,
    RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    Internal: HTTPStatus.INTERNAL_SERVER_ERROR,
    Failure: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def status_of(failure: Failure) -> HTTPStatus:
    return next(_STATUS[kind] for kind in type(failure).__mro__ if kind in _STATUS)


def problem(failure: Failure, instance: str) -> web.Response:
    """`instance` is the path without its query: a query may hold a token."""
    status = status_of(failure)
    body = {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "code": failure.code,
        "detail": failure.detail,
        "action": failure.action,
        "instance": instance,
        **failure.facts,
    }
    headers = {"Content-Type": "application/problem+json"}
    if isinstance(failure, RateLimited | Unavailable):
        headers["Retry-After"] = str(max(1, math.ceil(failure.retry_after_seconds)))
    if isinstance(failure, RangeUnsatisfiable):
        headers["Content-Range"] = f"bytes */{failure.facts.get('size', '*')}"
    if isinstance(failure, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(status=int(status), body=json.dumps(body).encode(), headers=headers)
