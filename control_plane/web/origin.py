"""Where what happens comes from: the request at hand, known to everything that runs for it without being handed on.

`AccessLog` stands in front of every route and binds the connection here; what runs for no request (jobs, start-up) has
`NOWHERE`. Reading costs nothing until somebody asks: a pull that nobody records pays for one context variable.

The address is the connection's own, whole (limits count an IPv6 network, a trail names the machine); headers that tell
of another are not believed, as `addresses` says.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import secrets
from collections.abc import Iterator
from contextvars import ContextVar, Token
from dataclasses import dataclass

from starlette.types import Scope

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MAX_AGENT = 300
_bound: ContextVar[Scope | None] = ContextVar("longshore_connection", default=None)


@dataclass(frozen=True, slots=True)
class Origin:
    """All are "" where there is no request."""

    client: str = ""
    user_agent: str = ""
    request_id: str = ""


NOWHERE = Origin()


def bind(scope: Scope) -> Token[Scope | None]:
    """Until `release`, `current_origin` tells of this connection; tasks that are started meanwhile inherit it."""
    return _bound.set(scope)


def release(token: Token[Scope | None]) -> None:
    _bound.reset(token)


@contextlib.contextmanager
def bound(scope: Scope) -> Iterator[None]:
    """The same as a block."""
    token = bind(scope)
    try:
        yield
    finally:
        release(token)


def current_scope() -> Scope | None:
    """Of the request that the current task runs for."""
    return _bound.get()


def current_origin() -> Origin:
    scope = _bound.get()
    return NOWHERE if scope is None else origin_of(scope)


def origin_of(scope: Scope) -> Origin:
    client = scope.get("client")
    return Origin(
        _address(client[0]) if client else "",
        _header(scope, b"user-agent")[:_MAX_AGENT],
        request_id_of(scope),
    )


def request_id_of(scope: Scope) -> str:
    """The identifier that the log knows this request by; made at first need. A proxy's is kept, so that its log and
    ours can be joined; anything that could break a log is not.
    """
    known = scope.get("longshore.request_id")
    if known is None:
        given = _header(scope, b"x-request-id")
        known = scope["longshore.request_id"] = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
    return str(known)


def _header(scope: Scope, wanted: bytes) -> str:
    for name, value in scope.get("headers", ()):
        if name == wanted:
            return str(value.decode("latin-1"))
    return ""


def _address(host: str) -> str:
    # An IPv4 client of a socket for both families looks like ::ffff:192.0.2.1.
    if not host.startswith("::ffff:"):
        return host
    try:
        mapped = ipaddress.IPv6Address(host).ipv4_mapped
    except ValueError:
        return host
    return str(mapped) if mapped is not None else host
