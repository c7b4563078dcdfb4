"""The one table from deliberate failures to gRPC status codes, and the interceptor that applies it.

Invariant: a handler raises a `Failure` and never aborts by itself. What nobody foresaw becomes a bare INTERNAL with an
identifier under which the log has the rest; nothing of our insides leaves the process.
"""

from __future__ import annotations

import inspect
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NoReturn

import grpc
import grpc.aio
import structlog

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
from common.rpc_failures import FAILURE_TRAILER, pack
from control_plane.rpc.metrics import RpcMetrics, unseen

log = structlog.get_logger()

STATUS: Mapping[type[Failure], grpc.StatusCode] = {
    Invalid: grpc.StatusCode.INVALID_ARGUMENT,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    Denied: grpc.StatusCode.PERMISSION_DENIED,
    NotFound: grpc.StatusCode.NOT_FOUND,
    # Not ALREADY_EXISTS: most conflicts are states that forbid the request; the code tells them apart.
    Conflict: grpc.StatusCode.FAILED_PRECONDITION,
    Stale: grpc.StatusCode.ABORTED,
    TooLarge: grpc.StatusCode.OUT_OF_RANGE,
    QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    RateLimited: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    Internal: grpc.StatusCode.INTERNAL,
}


def status_of(failure: Failure | type[Failure]) -> grpc.StatusCode:
    """The status of the nearest ancestor in the table; INTERNAL for a bare `Failure`."""
    kind = failure if isinstance(failure, type) else type(failure)
    for ancestor in kind.__mro__:
        if ancestor in STATUS:
            return STATUS[ancestor]
    return grpc.StatusCode.INTERNAL


class FailureInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server; put it first."""

    def __init__(self, metrics: RpcMetrics | None = None) -> None:
        self._metrics = metrics or unseen()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        shape = (handler.request_streaming, handler.response_streaming)
        make, behaviour = {
            (False, False): (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
            (False, True): (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
            (True, False): (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
            (True, True): (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
        }[shape]
        # A streaming handler is a generator, or a coroutine that writes to its context; gRPC asks in this way too.
        wrap = _generator if inspect.isasyncgenfunction(behaviour) else _coroutine
        wrapped: Any = wrap(behaviour, method, self._metrics)
        return make(wrapped, handler.request_deserializer, handler.response_serializer)


def _coroutine(
    behaviour: Callable[[Any, Any], Awaitable[Any]], method: str, metrics: RpcMetrics
) -> Callable[[Any, Any], Awaitable[Any]]:
    async def answer(request: Any, context: Any) -> Any:
        metrics.called(method)
        try:
            return await behaviour(request, context)
        except Exception as error:
            await _abort(context, error, method, metrics)

    return answer


def _generator(
    behaviour: Callable[[Any, Any], AsyncIterator[Any]], method: str, metrics: RpcMetrics
) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def answer(request: Any, context: Any) -> AsyncIterator[Any]:
        metrics.called(method)
        try:
            async for message in behaviour(request, context):
                yield message
        except Exception as error:
            await _abort(context, error, method, metrics)

    return answer


async def _abort(context: Any, error: Exception, method: str, metrics: RpcMetrics) -> NoReturn:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    failure = error if isinstance(error, Failure) else _unexpected(error, method)
    metrics.failed(method, failure.code)
    log.info("call failed", method=method, peer=context.peer(), code=failure.code, error=str(failure)[:1000])
    await context.abort(status_of(failure), str(failure)[:1000], ((FAILURE_TRAILER, pack(failure)),))
    raise AssertionError("abort always raises")


def _unexpected(error: Exception, method: str) -> Internal:
    correlation_id = secrets.token_hex(8)
    log.error("request failed unexpectedly", method=method, correlation_id=correlation_id, exc_info=error)
    return Internal(
        "the control plane failed", action=f"report it with the identifier {correlation_id}", id=correlation_id
    )
