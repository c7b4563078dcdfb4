"""Failures across gRPC: what a server attaches to a status, and how a client turns a status back into a failure.

The status code alone says what kind of failure it is (and so whether to retry); the trailer adds the code, the advice
and the facts. A peer that sends no trailer (gRPC itself, a proxy, an older version) is understood by its status code.
The table from failures to status codes is the server's: control_plane/rpc/errors.py.
"""

from __future__ import annotations

import json
from typing import Any

import grpc
import grpc.aio

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

# "-bin": binary metadata, so that text of any language passes (gRPC over HTTP/2, "Custom-Metadata").
FAILURE_TRAILER = "longshore-failure-bin"

# Peers refuse more than 8 KiB of metadata (gRPC core, GRPC_ARG_MAX_METADATA_SIZE); one failure stays far below.
_MAX_TEXT = 1500

_KINDS: dict[str, type[Failure]] = {
    kind.__name__: kind
    for kind in (
        Invalid,
        Unauthenticated,
        Denied,
        NotFound,
        Conflict,
        Stale,
        TooLarge,
        QuotaExceeded,
        RateLimited,
        Unavailable,
        Internal,
    )
}

_BY_STATUS: dict[grpc.StatusCode, type[Failure]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Invalid,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: Denied,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    grpc.StatusCode.ABORTED: Stale,
    grpc.StatusCode.OUT_OF_RANGE: TooLarge,
    grpc.StatusCode.RESOURCE_EXHAUSTED: RateLimited,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,
}


# What the asyncio client of gRPC says of a call that ended while we wrote to it: it puts these words and INTERNAL over
# the status that the server sent (grpc/grpc#36066). The call is over, and that is all that is known.
_ENDED_WHILE_WRITING = "Internal error from Core"


def kind_of(failure: Failure) -> type[Failure]:
    """The branch of the tree in common/errors.py that `failure` hangs on."""
    for ancestor in type(failure).__mro__:
        if ancestor in _KINDS.values():
            return ancestor
    return Internal


def pack(failure: Failure) -> bytes:
    """The value of `FAILURE_TRAILER` for `failure`."""
    facts = {name: value[:200] if isinstance(value, str) else value for name, value in list(failure.facts.items())[:16]}
    document = {
        "kind": kind_of(failure).__name__,
        "code": failure.code,
        "detail": failure.detail[:_MAX_TEXT],
        "action": failure.action[:_MAX_TEXT],
        "facts": facts,
        "retry_after_seconds": getattr(failure, "retry_after_seconds", None),
    }
    return json.dumps(document, ensure_ascii=False).encode()


def unpack(value: bytes, status: grpc.StatusCode) -> Failure | None:
    """The failure inside a trailer; None if it cannot be read. A kind that this version does not know is taken from
    `status`.
    """
    try:
        document: Any = json.loads(value)
        facts = {
            name: fact for name, fact in document["facts"].items() if name not in ("action", "retry_after_seconds")
        }
        kind = _KINDS.get(document["kind"]) or _BY_STATUS.get(status, Internal)
        delay = document.get("retry_after_seconds")
        if issubclass(kind, RateLimited | Unavailable) and isinstance(delay, int | float):
            facts["retry_after_seconds"] = float(delay)
        failure = kind(str(document["detail"]), action=str(document["action"]), **facts)
        # The class is the branch; the leaf's stable code is remembered on the instance, where programs look for it.
        vars(failure)["code"] = str(document["code"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return failure


def failure_of(error: grpc.aio.AioRpcError, what: str) -> Failure:
    """What went wrong while doing `what` ("attaching to plane:8444"), as a failure of our tree."""
    status = error.code()
    for name, value in error.trailing_metadata() or ():
        if name == FAILURE_TRAILER and isinstance(value, bytes) and (found := unpack(value, status)) is not None:
            return found
    kind = _BY_STATUS.get(status, Internal)
    reason = error.details() or status.name
    if reason == _ENDED_WHILE_WRITING:
        kind, reason = Unavailable, "the peer ended the call while we wrote to it"
    detail = f"{what} failed: {reason}"[:_MAX_TEXT]
    action = "it is tried again; check that the address can be reached" if issubclass(kind, Unavailable) else ""
    return kind(detail, action=action, status=status.name)
