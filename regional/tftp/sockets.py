"""UDP sockets of the server, room for thousands of them, and ERRORs that need no transfer."""

from __future__ import annotations

import resource
import socket
from typing import Any

import structlog

from regional.tftp.packet import ErrorCode, Refusal, encode

log = structlog.get_logger()

# linux/in.h; Python names neither. Without DF a router on the way may cut what a narrow link cannot carry.
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT = 10, 23, 0
# asm-generic/socket.h
_SNDBUFFORCE, _RCVBUFFORCE = 32, 33
_BUFFER_BYTES = 4 << 20


def make_room(transfers: int) -> None:
    """Two sockets each, and as much as the rest of the process has by default: most systems give 1024 unless asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * transfers + 1024
    if soft != resource.RLIM_INFINITY and soft < wanted:
        granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
        if granted < wanted:
            log.warning("few open files are allowed", allowed=granted, wanted=wanted)


def widen(listener: socket.socket) -> None:
    """Room for the requests of a whole rack at once, beyond the system's limit (net.core.rmem_max) where we may."""
    for forced, usual in ((_RCVBUFFORCE, socket.SO_RCVBUF), (_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            listener.setsockopt(socket.SOL_SOCKET, forced, _BUFFER_BYTES)
        except OSError:
            listener.setsockopt(socket.SOL_SOCKET, usual, _BUFFER_BYTES)


def bound(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET:
            made.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
        else:
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def pair(host: str, client: tuple[Any, ...]) -> tuple[socket.socket, socket.socket]:
    """A port of its own for one client: a connected socket, which saves each packet 1 of 4.4 microseconds of addresses
    and routes, and one for strangers on the same port, so that they get an answer. Raises `OSError`.
    """
    strangers = bound(host, 0)
    try:
        # Only now, or the kernel might choose a port that another transfer shares already.
        strangers.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        connected = bound(host, strangers.getsockname()[1], shared=True)
    except OSError:
        strangers.close()
        raise
    try:
        connected.connect(client)
    except OSError:
        strangers.close()
        connected.close()
        raise
    return connected, strangers


def refuse_stranger(endpoint: socket.socket, packet: bytes, sender: tuple[Any, ...]) -> None:
    """ERROR 5, unless it was an ERROR."""
    if packet[:2] != b"\0\5":
        answer(endpoint, sender, ErrorCode.UNKNOWN_TRANSFER, "this transfer is not yours")


def answer(endpoint: socket.socket, client: tuple[Any, ...], error: ErrorCode, message: str) -> None:
    """Best effort: who misses it asks again."""
    try:
        endpoint.sendto(encode(Refusal(error, message)), client)
    except OSError:
        return
