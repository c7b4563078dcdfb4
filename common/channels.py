"""gRPC channels from the edge to the control plane: always TLS, always our own CA, with or without our certificate.

Keepalive: a ping every 30 s finds a dead path within 40 s, also behind NAT that forgets idle flows (60 s is the
shortest common time-out); the server allows it (control_plane/rpc/server.py).
"""

from __future__ import annotations

import grpc
import grpc.aio

from common.tls import Identity

# A full set of desired state for one host or IDC: 10,000 orders of about 600 bytes are 6 MB.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

_OPTIONS: list[tuple[str, int]] = [
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # grpcio 1.85 waits for the ping by this one (60 s by default), whatever the line above says.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # One connection a channel: our own backoff decides when to dial again, not a pool shared through the process.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
]


def anonymous_channel(target: str, ca_pem: bytes) -> grpc.aio.Channel:
    """`target` is host:port; the server must show a certificate of `ca_pem` for that host."""
    return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(ca_pem), options=_OPTIONS)


def identified_channel(target: str, identity: Identity) -> grpc.aio.Channel:
    """Mutual TLS as `identity`."""
    credentials = grpc.ssl_channel_credentials(identity.ca_pem, identity.key_pem, identity.certificate_pem)
    return grpc.aio.secure_channel(target, credentials, options=_OPTIONS)
