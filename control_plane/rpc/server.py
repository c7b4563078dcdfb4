"""gRPC listeners: one for strangers (our certificate only), one for the enrolled (theirs as well, demanded).

Invariant: a port is ours alone or the start fails. gRPC would share a port with any process that asks (SO_REUSEPORT);
two control planes on one port would each see half of the fleet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc
import grpc.aio
import structlog

from common.channels import MAX_MESSAGE_BYTES
from common.errors import Conflict, Invalid
from control_plane.rpc.errors import FailureInterceptor
from control_plane.rpc.metrics import RpcMetrics, unseen

log = structlog.get_logger()

# Strangers send a token and a request of about 1 KiB.
_MAX_STRANGER_BYTES = 64 * 1024
_MAX_STRANGER_CALLS = 64
# The largest that a member sends: 500 reports of 2.5 KB, 1 MiB of a content given back. gRPC keeps all of a message
# until it is whole, so this bounds what one stream can make us hold.
_MAX_MEMBER_BYTES = 8 * 1024 * 1024
# Of one connection: its attachment, its renewal, contents given back and the channels of one host. More wait.
_MAX_STREAMS = 256

_TLS_FRAME_BYTES = 4096

Register = Callable[[grpc.aio.Server], None]


class ListenerFailed(Conflict):
    """The address is taken, or is not one of this machine."""

    code = "listener_failed"


class AddressMalformed(Invalid):
    code = "address_malformed"


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What the listener shows: PEM of key and certificate; and the CA that clients' certificates must come from."""

    key_pem: bytes
    certificate_pem: bytes
    ca_pem: bytes


class RpcListener:
    """One server on one address. Use as an async context manager; `address` names the chosen port afterwards.

    identity: called at start and for each handshake, so that a renewed certificate is used without a restart. Cheap
    when nothing changed.
    """

    def __init__(
        self,
        name: str,
        address: str,
        identity: Callable[[], ServerIdentity],
        services: Sequence[Register],
        *,
        mutual: bool,
        grace_seconds: float = 2.0,
        metrics: RpcMetrics | None = None,
    ) -> None:
        self._metrics = metrics or unseen()
        self._name = name
        self._host, self._port = _split(address)
        self._identity = identity
        self._shown: ServerIdentity | None = None
        self._mutual = mutual
        self._grace_seconds = grace_seconds
        self._services = services
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"{self._host}:{self._port}"

    async def __aenter__(self) -> Self:
        # Made here, not in the constructor: a grpc.aio server belongs to the loop that runs when it is made.
        server = grpc.aio.server(
            interceptors=[FailureInterceptor(self._metrics)],
            options=_options(self._mutual),
            maximum_concurrent_rpcs=None if self._mutual else _MAX_STRANGER_CALLS,
        )
        for register in self._services:
            register(server)
        try:
            self._port = server.add_secure_port(self.address, self._credentials())
        except RuntimeError as error:
            raise ListenerFailed(
                f"the {self._name} listener cannot use {self.address}: {error}",
                action="stop what uses the port, or choose another address",
            ) from error
        await server.start()
        self._server = server
        log.info("listener started", listener=self._name, address=self.address)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            await self._server.stop(self._grace_seconds)

    def _credentials(self) -> grpc.ServerCredentials:
        return grpc.dynamic_ssl_server_credentials(
            self._certificates(self._identity()),
            self._changed,  # type: ignore[arg-type]  # the stub forgets that None means "unchanged"
            require_client_authentication=self._mutual,
        )

    def _certificates(self, identity: ServerIdentity) -> grpc.ServerCertificateConfiguration:
        self._shown = identity
        return grpc.ssl_server_certificate_configuration(
            [(identity.key_pem, identity.certificate_pem)], identity.ca_pem if self._mutual else None
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        # Called by gRPC in one of its threads at each handshake; None keeps what is shown.
        self._metrics.handshake(self._name)
        identity = self._identity()
        return None if identity == self._shown else self._certificates(identity)


def _options(mutual: bool) -> list[tuple[str, int]]:
    largest = _MAX_MEMBER_BYTES if mutual else _MAX_STRANGER_BYTES
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", largest),
        ("grpc.max_concurrent_streams", _MAX_STREAMS if mutual else _MAX_STRANGER_CALLS),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # gRPC keeps a buffer of this size for each connection as long as it lives; the default of 16 KiB was an eighth
        # of what 1,000 agents cost. What is larger takes more TLS records.
        ("grpc.tsi.max_frame_size", _TLS_FRAME_BYTES),
        # Clients ping every 30 s (common/channels.py); the default answers that with GOAWAY "too_many_pings".
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 0),
        # And we ping them: a machine that froze with its connection open is found even if we only wait for it to read.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.ping_timeout_ms", 20_000),
    ]


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise AddressMalformed(f"{address!r} is not host:port", action="write for example 127.0.0.1:8444")
    return host, int(port)
