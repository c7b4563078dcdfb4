"""Calls to etcd: one connection at a time, the next endpoint when it fails, a deadline on everything.

Every operation made here may be repeated when its answer was lost (see proto/etcd/etcd.proto), so a call that was under
way when a leader died is given up after two seconds and made again elsewhere: a single long deadline would hang with
the dead leader, although the cluster accepts new writes after about 0.6 s (measured with three nodes on loopback).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
import grpc.aio

from common.backoff import Backoff
from common.clock import Clock
from common.errors import Failure, Unauthenticated, Unavailable
from common.rpc_failures import failure_of
from proto.etcd import etcd_pb2 as wire
from proto.etcd import etcd_pb2_grpc as services

T = TypeVar("T")
Metadata = tuple[tuple[str, str], ...]

ATTEMPT_SECONDS = 2.0
_CHANNEL_OPTIONS = (
    # A server that hangs or is cut off is noticed after nine seconds, also by a silent watch. By default etcd cuts off
    # clients that ping more often than every five.
    ("grpc.keepalive_time_ms", 6000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.http2.ping_timeout_ms", 3000),  # without it the timeout above has no effect (seen with grpcio 1.85: 60 s)
    ("grpc.http2.max_pings_without_data", 0),
    # How long a connection attempt may take; the default is twenty seconds.
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # Trying an endpoint again must not inherit the waiting time of an earlier connection to it.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 64 << 20),
)
_PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,  # "Stream removed" of a lost connection comes as this too
    }
)


@dataclass(frozen=True, slots=True)
class EtcdOptions:
    """`endpoints` are host:port. TLS is used when `ca_pem` is given, client certificates when the other two are. An
    operation is tried for `operation_seconds` before it is `Unavailable`.
    """

    endpoints: tuple[str, ...]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_pem: bytes | None = None
    certificate_pem: bytes | None = None
    key_pem: bytes | None = field(default=None, repr=False)
    operation_seconds: float = 10.0


class Connection:
    """One channel with its stubs. It is closed when it was replaced and nobody uses it any more: closing it under a
    call would look to the caller as if its own task had been cancelled.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.kv: services.KVAsyncStub = services.KVStub(channel)
        self.lease: services.LeaseAsyncStub = services.LeaseStub(channel)
        self.watch: services.WatchAsyncStub = services.WatchStub(channel)
        self.auth: services.AuthAsyncStub = services.AuthStub(channel)
        self.token: str | None = None
        self.users = 0
        self.replaced = False


class EtcdClient:
    def __init__(self, options: EtcdOptions, clock: Clock, chance: Callable[[], float]) -> None:
        if not options.endpoints:
            raise ValueError("etcd needs at least one endpoint")
        self.clock = clock
        self.chance = chance
        self._options = options
        self._next = int(chance() * len(options.endpoints))  # not every process at the first endpoint
        self._connection: Connection | None = None

    async def call(
        self,
        what: str,
        operation: Callable[[Connection, Metadata], Awaitable[T]],
        *,
        seconds: float | None = None,
    ) -> T:
        """The answer, from whichever endpoint gives it. Raises `Unavailable` after `seconds` (by default the options'),
        any other failure at once.
        """
        deadline = self.clock.monotonic() + (self._options.operation_seconds if seconds is None else seconds)
        backoff = Backoff(self.chance, initial_seconds=0.1, cap_seconds=1.0)
        while True:
            try:
                async with self.connected(what) as connection:
                    return await operation(connection, await self.credentials(connection))
            except Unavailable:
                delay = backoff.next_delay()
                if self.clock.monotonic() + delay >= deadline:
                    raise
                await self.clock.sleep(delay)

    @contextlib.asynccontextmanager
    async def connected(self, what: str) -> AsyncIterator[Connection]:
        """The present connection. A failure of gRPC inside becomes one of ours, and a connection that failed is not
        used for new calls.
        """
        connection = self._current()
        connection.users += 1
        try:
            yield connection
        except grpc.aio.AioRpcError as error:
            raise await self._judged(connection, error, what) from error
        finally:
            connection.users -= 1
            await self._close_if_unused(connection)

    async def credentials(self, connection: Connection) -> Metadata:
        """Raises `Unauthenticated` when etcd does not know the user or the password."""
        if self._options.username is None:
            return ()
        if connection.token is None:
            request = wire.AuthenticateRequest(name=self._options.username, password=self._options.password or "")
            try:
                connection.token = (await connection.auth.Authenticate(request, timeout=ATTEMPT_SECONDS)).token
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                    raise
                raise Unauthenticated(
                    f"etcd does not accept user {self._options.username!r}: {error.details()}",
                    action="check the user name and the password",
                ) from error
        return (("token", connection.token),)

    async def close(self) -> None:
        """Calls that are under way still end by themselves."""
        if (connection := self._connection) is not None:
            self.abandon(connection)
            await self._close_if_unused(connection)

    def abandon(self, connection: Connection) -> None:
        """New calls go to the next endpoint."""
        if self._connection is connection:
            self._connection = None
            self._next += 1
        connection.replaced = True

    async def _judged(self, connection: Connection, error: grpc.aio.AioRpcError, what: str) -> Failure:
        failure = failure_of(error, f"etcd: {what}")
        details = error.details() or ""
        if connection.token is not None and (
            error.code() is grpc.StatusCode.UNAUTHENTICATED or "auth store is old" in details
        ):
            connection.token = None  # lapsed; the next try brings a new one
            return Unavailable(failure.detail, action="it is tried again with a new token")
        if "user name is empty" in details:
            return Unauthenticated("etcd asks for a user", action="configure a user name and a password")
        if error.code() in _PASSING:
            self.abandon(connection)
            return failure if isinstance(failure, Unavailable) else Unavailable(failure.detail)
        return failure

    def _current(self) -> Connection:
        if self._connection is None:
            target = self._options.endpoints[self._next % len(self._options.endpoints)]
            self._connection = Connection(self._open(target))
        return self._connection

    def _open(self, target: str) -> grpc.aio.Channel:
        if self._options.ca_pem is None:
            return grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
        credentials = grpc.ssl_channel_credentials(
            self._options.ca_pem, self._options.key_pem, self._options.certificate_pem
        )
        return grpc.aio.secure_channel(target, credentials, options=_CHANNEL_OPTIONS)

    async def _close_if_unused(self, connection: Connection) -> None:
        if connection.replaced and connection.users == 0:
            await connection.channel.close()
