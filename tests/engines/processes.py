"""Servers as child processes: started with a bare environment, watched, and ended by process id.

Invariant: an engine does not outlive the process that started it. The kernel signals it when its parent dies
(PR_SET_PDEATHSIG through setpriv), so even a test run ended by SIGKILL leaves no server behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.engines import EngineCannotRun

# The kernel's "parent" is the thread that started a process. Threads of asyncio.to_thread end with their loop, so one
# thread that lasts as long as the process starts them all.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine spawner")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find_program(name: str, group: str, search_path: str = SEARCH_PATH) -> str:
    """The program's path. Raises `EngineCannotRun` naming the install group that brings it."""
    found = shutil.which(name, path=search_path)
    if found is None:
        raise EngineCannotRun(f"{name} is not installed; run `python -m tests.engines.install {group}` as root")
    return found


def stands_still(pid: int) -> bool:
    """Wait until every thread of a process that was stopped stands still."""
    return wait_until(lambda: set(_thread_states(pid)) == {"T"}, 5, 0.001)


def _thread_states(pid: int) -> list[str]:
    states = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            states.append((thread / "stat").read_text().rpartition(") ")[2][:1])
    return states


@contextlib.contextmanager
def installed_program(name: str, group: str) -> Iterator[str]:
    """`find_program` for `fixtures.running`: a test of a program that is missing fails where all are required."""
    yield find_program(name, group)


def wait_until(condition: Callable[[], bool], seconds: float, poll_seconds: float = 0.02) -> bool:
    """Polls; False after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll_seconds)
    return True


def guarded(parent_death_signal: str, user: str | None = None) -> list[str]:
    """What to put before a command so that it ends with its parent and, if named, runs as another user (needs root)."""
    identity = [f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
    return [find_program("setpriv", "tools"), f"--pdeathsig={parent_death_signal}", *identity]


class Process:
    """One server. `log` keeps everything that it printed."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
        parent_death_signal: str = "KILL",
        prefix: Sequence[str] = (),
    ) -> None:
        """`prefix` stands before the command (nsenter ...); `user` needs root."""
        guard = guarded(parent_death_signal, user)
        self.log = log
        self.name = Path(command[0]).name
        with log.open("ab") as output:
            self._child = _SPAWNER.submit(
                subprocess.Popen,
                [*prefix, *guard, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8", **(environment or {})},
                cwd="/",
                start_new_session=True,
            ).result()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def send(self, number: signal.Signals) -> None:
        if self.running:
            os.kill(self.pid, number)

    def pause(self) -> None:
        """Connections are still accepted by the kernel, but nobody answers: a server that hangs. Every thread stands
        still when this returns; the signal alone takes effect a little later, and an answer may slip out.
        """
        self.send(signal.SIGSTOP)
        stands_still(self.pid)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        self.send(signal.SIGKILL)
        self._child.wait(10)

    def stop(self, seconds: float = 10, first: signal.Signals = signal.SIGTERM) -> None:
        """Ask, wait, then SIGKILL. A paused process is resumed so that it can hear."""
        self.send(first)
        self.resume()
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def wait_ready(self, ready: Callable[[], bool], seconds: float, poll_seconds: float = 0.02) -> None:
        """Raises `EngineCannotRun` with the end of the log when the process dies or is not `ready` in time."""
        wait_until(lambda: not self.running or ready(), seconds, poll_seconds)
        if not self.running or not ready():
            state = "is not ready" if self.running else f"ended with {self._child.returncode}"
            self.stop(2)
            raise EngineCannotRun(f"{self.name} {state}: {self.log_tail()}")

    def log_tail(self, lines: int = 8) -> str:
        try:
            return " | ".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "no log"
