"""Failures in the OCI's words (distribution specification, "Error Codes"); the statuses are those of `problems`."""

from __future__ import annotations

import json
import math

from aiohttp import web

from common.byte_ranges import RangeUnsatisfiable
from common.digest import DigestInvalid
from common.errors import (
    Denied,
    Failure,
    Invalid,
    NotFound,
    RateLimited,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from common.reference import NameInvalid
from regional.problems import status_of
from regional.v2.paths import PathUnknown

VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}


class MethodUnsupported(Invalid):
    """An edge is read; images are pushed to the centre."""

    code = "method_unsupported"


_CODES: dict[type[Failure], str] = {
    MethodUnsupported: "UNSUPPORTED",
    PathUnknown: "UNSUPPORTED",
    NameInvalid: "NAME_INVALID",
    DigestInvalid: "DIGEST_INVALID",
    RangeUnsatisfiable: "SIZE_INVALID",
    Unauthenticated: "UNAUTHORIZED",
    Denied: "DENIED",
    NotFound: "BLOB_UNKNOWN",
    TooLarge: "SIZE_INVALID",
    RateLimited: "TOOMANYREQUESTS",
    Unavailable: "UNAVAILABLE",
    Failure: "UNKNOWN",
}


def code_of(failure: Failure) -> str:
    return next(_CODES[kind] for kind in type(failure).__mro__ if kind in _CODES)


def refused(failure: Failure, challenge: str) -> web.Response:
    """`challenge` is the `WWW-Authenticate` of a 401."""
    status = 405 if isinstance(failure, MethodUnsupported) else int(status_of(failure))
    detail = {"code": code_of(failure), "message": failure.detail, "detail": {"action": failure.action}}
    # A cache in between might keep a 404 (RFC 9110, 15.1), and the content may be pushed the next moment.
    headers = {**VERSION, "Content-Type": "application/json", "Cache-Control": "no-store"}
    if isinstance(failure, Unauthenticated):
        headers["WWW-Authenticate"] = challenge
    if isinstance(failure, MethodUnsupported):
        headers["Allow"] = "GET, HEAD"
    if isinstance(failure, RateLimited | Unavailable):
        headers["Retry-After"] = str(max(1, math.ceil(failure.retry_after_seconds)))
    if isinstance(failure, RangeUnsatisfiable):
        headers["Content-Range"] = f"bytes */{failure.facts.get('size', '*')}"
    return web.Response(status=status, body=json.dumps({"errors": [detail]}).encode(), headers=headers)
