"""Longshore's services as child processes: started with a deadline, stopped by their own process id, restartable.

Invariant: nothing that was started here outlives `stop`, and a service that dies while starting is reported with the
end of its log. Tests and benchmarks use the same code, so what they show is what the demo does.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import Failure

_LOG_TAIL_BYTES = 3000


class ServiceFailed(Failure):
    code = "service_failed"


@dataclass
class Service:
    """One service. `prefix` is put before the command (entering a network namespace); `arguments` may change between
    starts.
    """

    name: str
    module: str
    arguments: Sequence[str]
    data: Path
    prefix: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    start_seconds: float = 60.0
    facts: Mapping[str, Any] = field(default_factory=dict)  # what it said of itself when it was last ready
    _process: subprocess.Popen[bytes] | None = None

    @property
    def log_path(self) -> Path:
        return self.data.parent / f"{self.name}.log"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServiceFailed(f"{self.name} was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start without waiting."""
        self.data.mkdir(parents=True, exist_ok=True)
        (self.data / "ready.json").unlink(missing_ok=True)
        # Only what a service needs: the caller's LONGSHORE_* variables must not leak into it.
        kept = {key: value for key, value in os.environ.items() if not key.startswith("LONGSHORE_")}  # noqa: TID251
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.prefix, *_ends_with_parent(), sys.executable, "-m", self.module, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**kept, **self.environment},
                start_new_session=True,
            )

    def wait_ready(self) -> dict[str, Any]:
        """What the service says of itself once it listens. Raises `ServiceFailed` if it dies or takes too long."""
        ready = self.data / "ready.json"
        deadline = time.monotonic() + self.start_seconds
        while time.monotonic() < deadline:
            if ready.exists():
                self.facts = document = json.loads(ready.read_bytes())
                return dict(document)
            if not self.running:
                raise ServiceFailed(f"{self.name} ended while starting:\n{self.log_tail()}")
            time.sleep(0.02)
        raise ServiceFailed(f"{self.name} was not ready after {self.start_seconds:.0f} s:\n{self.log_tail()}")

    def start(self) -> dict[str, Any]:
        self.launch()
        return self.wait_ready()

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)

    def stop(self, seconds: float = 15.0) -> None:
        """SIGTERM, then SIGKILL after `seconds`."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def log_tail(self) -> str:
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - _LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")


def _ends_with_parent() -> list[str]:
    # PR_SET_PDEATHSIG: whoever kills the demo or a test run leaves no service behind. setpriv belongs to util-linux.
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig=TERM"] if setpriv else []
