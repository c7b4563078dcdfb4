"""`python -m tests.faults.nursery`: a process that has imported the server and forks it, so that a life costs half a
second; and the boundaries at which such a life can be made to end.

Each line of standard input is a JSON object: `arguments` and `environment` of the server, `log`, `armed` (a file) and
`die_at`. From the moment that `armed` exists the child counts each step that leaves a trace (a file made, written,
synced, renamed or removed; a commit begun, a commit done; a request to the object store sent, answered) and kills
itself with SIGKILL ahead of step number `die_at`. What it counted stands in `armed`, one name a line. The answer is the
child's process id.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from botocore.httpsession import URLLib3Session
from sqlalchemy.engine.default import DefaultDialect

from control_plane.program import app

_PR_SET_PDEATHSIG = 1


class Boundaries:
    """Counts steps of this process, from any thread, and ends it ahead of one of them."""

    def __init__(self, armed: Path, die_at: int) -> None:
        self._armed = os.fspath(armed)
        self._die_at = die_at
        self._count = 0
        self._turn = Lock()
        self._trace: int | None = None
        self._open, self._write = os.open, os.write

    def step(self, name: str) -> None:
        if self._trace is None:
            try:
                self._trace = self._open(self._armed, os.O_WRONLY | os.O_APPEND)
            except FileNotFoundError:
                return
        # Else a thread sees the number of another one that has not written its name yet, and ends us for it.
        with self._turn:
            self._count += 1
            self._write(self._trace, f"{name}\n".encode())
            if self._count == self._die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def before(self, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            self.step(name)
            return real(*arguments, **named)

        setattr(owner, name, counted)

    def around(self, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            self.step(name)
            result = real(*arguments, **named)
            self.step(f"{name} done")
            return result

        setattr(owner, name, counted)

    def creations(self) -> None:
        real: Callable[..., int] = os.open

        def counted(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
            if flags & os.O_CREAT:
                self.step("create")
            return real(path, flags, *arguments, **named)

        os.open = counted

    def watch(self) -> None:
        for name in ("writev", "fsync", "replace", "unlink"):
            self.before(os, name)
        self.creations()
        self.around(DefaultDialect, "do_commit")
        self.around(URLLib3Session, "send")


def _live(order: dict[str, Any]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(order["environment"])  # noqa: TID251  the child's own
    Boundaries(Path(order["armed"]), order["die_at"]).watch()
    app(order["arguments"], standalone_mode=False)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: the kernel buries them
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                _live(json.loads(line))
            finally:
                os._exit(1)
        print(child, flush=True)


if __name__ == "__main__":
    main()
