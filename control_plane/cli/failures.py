"""From an answer of the server to a failure with an exit code that scripts can rely on.

0  done                     5  not found
1  failed                   6  conflict, or stale
2  wrong usage or input     7  a server is away, busy or too slow: try again
3  log in first             8  over a limit or quota
4  not allowed
"""

from __future__ import annotations

import json
from typing import Any

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

_EXIT_CODES: tuple[tuple[type[Failure], int], ...] = (
    (Invalid, 2),
    (Unauthenticated, 3),
    (Denied, 4),
    (NotFound, 5),
    (Conflict, 6),
    (Stale, 6),
    (Unavailable, 7),
    (RateLimited, 7),
    (TooLarge, 8),
    (QuotaExceeded, 8),
    (Failure, 1),
)

_BY_STATUS: dict[int, type[Failure]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Denied,
    404: NotFound,
    405: Invalid,
    409: Conflict,
    412: Stale,
    413: TooLarge,
    416: Invalid,
    422: Invalid,
    429: RateLimited,
    500: Internal,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def exit_code(failure: Failure) -> int:
    return next(code for kind, code in _EXIT_CODES if isinstance(failure, kind))


def failure_of(status: int, body: bytes, what: str) -> Failure:
    """Understands problem bodies (RFC 9457) and the OCI error body; `what` names what was asked for."""
    kind = _BY_STATUS.get(status, Internal if status >= 500 else Invalid)
    # To registry clients a full quota is a denial like any other; our own code tells.
    if QuotaExceeded.code.encode() in body and _own_code(body) == QuotaExceeded.code:
        kind = QuotaExceeded
    detail, action = _explanation(body)
    return kind(detail or f"{what} was answered with HTTP {status}", action=action, status=status)


def _own_code(body: bytes) -> str:
    try:
        document: Any = json.loads(body)
        errors = document.get("errors")
        return str((errors[0]["detail"] if errors else document).get("code"))
    except (ValueError, AttributeError, LookupError, TypeError):
        return ""


def _explanation(body: bytes) -> tuple[str, str]:
    try:
        document: Any = json.loads(body)
    except ValueError:
        return "", ""
    if not isinstance(document, dict):
        return "", ""
    if document.get("errors") and isinstance(document["errors"], list) and "detail" not in document:
        first = document["errors"][0]
        return f"{first.get('message', '')} [{first.get('code', '')}]", _text(first.get("detail"), "action")
    return str(document.get("detail") or document.get("title") or ""), str(document.get("action") or "")


def _text(detail: Any, key: str) -> str:
    return str(detail.get(key, "")) if isinstance(detail, dict) else ""
