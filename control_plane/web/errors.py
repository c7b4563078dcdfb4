"""The one table from deliberate failures to HTTP status, and the problem body that tells of them (RFC 9457).

Invariant: nothing of our insides leaves the process. A failure says what its author wrote for the client; anything
unexpected becomes a bare 500 with an identifier under which the log has the rest. What is wrong in a request is a 400
that names the places in `fields`, whether its shape or a domain's rule found it: clients need not know where we look.

Works for FastAPI routes and for plain Starlette routes alike; the registry's /v2 has its own dialect on top of
`status_of`.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

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

log = structlog.get_logger()
# Told of a failure before it is answered; it decides by itself which ones concern it, and never raises.
Refused = Callable[[Scope, Failure], Awaitable[None]]

STATUS: Mapping[type[Failure], HTTPStatus] = {
    Invalid: HTTPStatus.BAD_REQUEST,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Denied: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Stale: HTTPStatus.PRECONDITION_FAILED,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    # As RFC 9110 section 15.5.14 has it: larger than we are willing to take; `code` tells it from a fixed limit.
    QuotaExceeded: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    Internal: HTTPStatus.INTERNAL_SERVER_ERROR,
}

_CODES = {
    HTTPStatus.UNAUTHORIZED: Unauthenticated.code,
    HTTPStatus.FORBIDDEN: Denied.code,
    HTTPStatus.NOT_FOUND: NotFound.code,
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TooLarge.code,
    HTTPStatus.TOO_MANY_REQUESTS: RateLimited.code,
    HTTPStatus.SERVICE_UNAVAILABLE: Unavailable.code,
}
_RESERVED = frozenset({"type", "title", "status", "code", "detail", "action", "instance"})
# A body with a thousand wrong fields is answered with the first ones; the rest helps nobody.
_MAX_FIELDS = 20


class ProblemResponse(JSONResponse):
    media_type = "application/problem+json"


def status_of(failure: Failure | type[Failure]) -> HTTPStatus:
    """The status of the nearest ancestor in the table; 500 for a bare `Failure`."""
    kind = failure if isinstance(failure, type) else type(failure)
    for ancestor in kind.__mro__:
        if ancestor in STATUS:
            return STATUS[ancestor]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def headers_of(failure: Failure) -> dict[str, str]:
    """`Retry-After` in whole seconds (RFC 9110 section 10.2.3), rounded up; a 401's challenge (section 11.6.1)."""
    if isinstance(failure, RateLimited | Unavailable):
        return {"Retry-After": str(max(1, math.ceil(failure.retry_after_seconds)))}
    if isinstance(failure, Unauthenticated):
        return {"WWW-Authenticate": 'Bearer realm="longshore"'}
    return {}


def problem_of(failure: Failure, path: str) -> dict[str, Any]:
    """The body for `failure`; its facts stand beside the standard members and never replace them."""
    facts: dict[str, Any] = {name: value for name, value in failure.facts.items() if name not in _RESERVED}
    if isinstance(failure, Invalid) and "field" in facts:
        facts["fields"] = [{"field": facts["field"], "problem": failure.detail}]
    return _problem(status_of(failure), failure.code, failure.detail, failure.action, path) | facts


def request_id_of(request: Request) -> str:
    """The identifier that the log knows this request by; made at first need where the access log made none."""
    known: str = request.scope.setdefault("longshore.request_id", secrets.token_hex(8))
    return known


def answer_unexpected(request: Request, error: Exception) -> Response:
    """The 500 for what nobody foresaw: logged with its traceback, answered with nothing but the identifier."""
    request_id = request_id_of(request)
    log.error("request failed", request_id=request_id, method=request.method, path=request.url.path, exc_info=error)
    failure = Internal(
        "the server failed in a way it did not foresee",
        action=f"try again; if it stays, report it with request_id {request_id}",
        request_id=request_id,
    )
    return ProblemResponse(problem_of(failure, request.url.path), STATUS[Internal])


def install_error_handlers(app: Starlette, refused: Refused | None = None) -> None:
    """Give `app` (Starlette or FastAPI) the answers above for everything that its routes raise."""

    async def answer_failure(request: Request, error: Exception) -> Response:
        if refused is not None and isinstance(error, Failure):
            await refused(request.scope, error)
        return await _answer_failure(request, error)

    app.add_exception_handler(Failure, answer_failure)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    # Reached only where no access log stands in front: that one answers first and keeps servers from logging twice.
    app.add_exception_handler(Exception, _answer_rest)


async def _answer_failure(request: Request, error: Exception) -> Response:
    failure = error if isinstance(error, Failure) else Internal("a failure of an unknown kind")
    status = status_of(failure)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        request_id = request_id_of(request)
        failure.facts.setdefault("request_id", request_id)
        log.error("request failed", request_id=request_id, path=request.url.path, exc_info=error)
    return ProblemResponse(problem_of(failure, request.url.path), status, headers_of(failure))


async def _answer_invalid(request: Request, error: Exception) -> Response:
    findings = error.errors() if isinstance(error, RequestValidationError) else ()
    # Only the place and the rule: the value itself may be a password.
    fields = [
        {"field": ".".join(str(part) for part in found["loc"]), "problem": str(found["msg"])}
        for found in findings[:_MAX_FIELDS]
    ]
    names = ", ".join(field["field"] for field in fields[:5])
    body = _problem(
        STATUS[Invalid],
        Invalid.code,
        f"the request is wrong in {names}" if names else "the request cannot be read",
        "mend the fields that `fields` names and send it again",
        request.url.path,
    )
    return ProblemResponse(body | {"fields": fields}, STATUS[Invalid])


async def _answer_http(request: Request, error: Exception) -> Response:
    # Starlette's own refusals: no such route, method not allowed, a body that is no JSON.
    status = HTTPStatus(error.status_code) if isinstance(error, HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR
    headers = error.headers if isinstance(error, HTTPException) else None
    detail = str(error.detail) if isinstance(error, HTTPException) else status.phrase
    if status < HTTPStatus.OK or status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        return Response(status_code=status, headers=headers)
    code = _CODES.get(status, Invalid.code if status < HTTPStatus.INTERNAL_SERVER_ERROR else Internal.code)
    action = {
        HTTPStatus.NOT_FOUND: "check the address",
        HTTPStatus.METHOD_NOT_ALLOWED: "use one of the methods in the Allow header",
    }.get(status, "")
    return ProblemResponse(_problem(status, code, detail, action, request.url.path), status, headers)


async def _answer_rest(request: Request, error: Exception) -> Response:
    return answer_unexpected(request, error)


def _problem(status: HTTPStatus, code: str, detail: str, action: str, path: str) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "code": code,
        "detail": detail,
        "action": action,
        "instance": path,
    }
