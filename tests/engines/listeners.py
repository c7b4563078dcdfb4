"""Free ports, and proof of who listens on one.

An answer on a port is no proof that our server gives it: a suite once ran for a while against somebody else's
registry, because its own had failed with "address already in use". So the socket's inode in /proc/PID/net/tcp must be
among the open files of our process.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

from tests.engines import EngineCannotRun

_LISTEN = "0A"  # the state column of /proc/net/tcp, see include/net/tcp_states.h
# Below the ephemeral range (32768 on Linux), so that no outgoing connection takes a port between our look and the
# server's bind.
_FIRST, _LAST = 20000, 29999

_RESERVATIONS: list[socket.socket] = []


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now, and that no other process of ours is given while this one
    lives: an engine is killed and started again on its port, and another one would have taken it meanwhile.
    """
    chooser = random.SystemRandom()
    for _ in range(200):
        port = chooser.randint(_FIRST, _LAST)
        if not _reserved(port):
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise EngineCannotRun(f"no free port between {_FIRST} and {_LAST} after 200 tries")


def _reserved(port: int) -> bool:
    # A name in the kernel's table alone: it goes with the process, and is seen by every process of this machine.
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0longshore-tests-port-{port}")
    except OSError:
        mark.close()
        return False
    _RESERVATIONS.append(mark)
    return True


def owns_port(pid: int, port: int) -> bool:
    """Whether process `pid` itself listens on `port`, in its own network namespace."""
    inodes = _listening_inodes(pid, port)
    return bool(inodes) and not inodes.isdisjoint(_open_sockets(pid))


def _listening_inodes(pid: int, port: int) -> set[str]:
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def _open_sockets(pid: int) -> set[str]:
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(entry.readlink())
            except OSError:  # closed since the listing
                continue
            if target.startswith("socket:["):
                found.add(target[len("socket:[") : -1])
    except OSError:
        return set()
    return found
