"""Listening in another network namespace than one's own."""

from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path

_CLONE_NEWNET = 0x40000000


def loopback_socket(netns: Path | None) -> socket.socket:
    """A socket on a free loopback port of that network; a socket stays in the network that it was made in."""
    if netns is None:
        return socket.create_server(("127.0.0.1", 0))
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as home, netns.open() as there:
        assert libc.setns(there.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            return socket.create_server(("127.0.0.1", 0))
        finally:
            assert libc.setns(home.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
