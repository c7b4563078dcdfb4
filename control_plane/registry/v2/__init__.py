"""The wire of `/v2/`: the OCI distribution specification 1.1 and what Docker, containerd, skopeo and podman add to it.

One ASGI application, not a route per resource: repository names contain slashes and may contain every word of the
protocol, so a path is read from its right end (`paths`). It knows HTTP and no SQL; what may be done and what happens is
in the services.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.types import Scope

from common.errors import Failure


def _never(_repository: str) -> bool:
    return False


async def _ignored(_scope: Scope, _failure: Failure, _repository: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """`public_url` (scheme, host, port) is where clients find us; if None, each request's own `Host` is.
    `accel_prefix` is nginx's internal location over the store's `blobs` directory; None: we send the bytes.
    `redirected` says of which repositories clients fetch blobs from the store itself, where it has addresses for that;
    they are valid for `redirect_seconds`. `idle_seconds` is how long a client may take nothing in the middle of a body,
    or send next to nothing. `refused` is told of each failure, and of the repository that was asked for, before it is
    answered.
    """

    service: str = "longshore"
    public_url: str | None = None
    accel_prefix: str | None = None
    redirected: Callable[[str], bool] = _never
    redirect_seconds: int = 1200
    idle_seconds: float = 60.0
    refused: Callable[[Scope, Failure, str], Awaitable[None]] = _ignored
