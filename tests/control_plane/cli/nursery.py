"""`python -m tests.control_plane.cli.nursery NAME`: a process that has imported `longshore` and forks it, so that a
command costs 30 ms instead of the half second that importing takes.

Each connection is one command, in a process of its own with its own environment and home: a line of JSON with
`arguments`, `environment`, `directory`, and the paths `stdin`, `stdout`, `stderr`. The answer is its exit status, as
`waitpid` gives it. Some tests run the installed program itself.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import sys
from typing import Any

from control_plane.cli.program import main as longshore

_PR_SET_PDEATHSIG = 1


def _command(order: dict[str, Any]) -> None:
    flags = {0: os.O_RDONLY, 1: os.O_WRONLY | os.O_TRUNC, 2: os.O_WRONLY | os.O_TRUNC}
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        os.dup2(os.open(order[name], flags[descriptor]), descriptor)
    os.environ.clear()  # noqa: TID251  the child's own
    os.environ.update(order["environment"])  # noqa: TID251
    os.chdir(order["directory"])
    sys.argv[1:] = order["arguments"]
    longshore()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _attend(connection: socket.socket) -> None:
    _die_with_parent()
    with connection, connection.makefile("rw") as lines:
        order = json.loads(lines.readline())
        child = os.fork()
        if child == 0:
            _die_with_parent()
            _leave(order)
        _, status = os.waitpid(child, 0)
        print(status, file=lines, flush=True)


def _leave(order: dict[str, Any]) -> None:
    """Never returns. What `sys.exit` was told is the exit code, as of a program that ends by itself."""
    code: object = 0
    try:
        _command(order)
    except SystemExit as ending:
        code = ending.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def main() -> None:
    """Until standard input ends: with whoever started this."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{sys.argv[1]}")
        listener.listen(64)
        print("listening", flush=True)
        while sys.stdin not in select.select([sys.stdin, listener], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                try:
                    _attend(connection)
                finally:
                    os._exit(0)
            connection.close()


if __name__ == "__main__":
    main()
