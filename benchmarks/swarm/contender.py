"""What a side of a race must be able to do, and where it runs.

Invariant: everything that may be loaded before the request is ready when `prepare` returns; from `go` on the clock
runs; after `close` none of its processes is left.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.swarm.network import Network
from control_plane.cli.image_source import BlobSource


@dataclass(frozen=True)
class Arena:
    """`folder` is this side's alone, in memory, so that the disk is not the subject."""

    network: Network
    folder: Path
    blob_path: Path
    blob: BlobSource


class Contender(ABC):
    name: str

    def __init__(self, arena: Arena) -> None:
        self.arena = arena

    @abstractmethod
    def prepare(self) -> None: ...

    @abstractmethod
    def go(self) -> None: ...

    @abstractmethod
    def holds(self, number: int) -> bool:
        """Whether that host has the whole blob, as its own client says when it has checked it."""

    @abstractmethod
    def copy(self, number: int) -> Path:
        """That host's copy."""

    @abstractmethod
    def kill(self, number: int) -> None:
        """SIGKILL to that host's client; it does not come back."""

    @abstractmethod
    def sessions(self) -> set[int]:
        """Process ids of the session leaders of everything that it runs."""

    @abstractmethod
    def close(self) -> None: ...


class Processes:
    """Programs of one side, each in a place of the network; killed together."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def spawn(self, prefix: Sequence[str], name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        setpriv = shutil.which("setpriv") or "setpriv"
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*prefix, setpriv, "--pdeathsig=KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self._folder,
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},  # noqa: TID251  not the caller's settings
            )
        self._running[name] = process
        return process

    def kill(self, name: str) -> None:
        self._running[name].kill()
        self._running[name].wait(10)

    def sessions(self) -> set[int]:
        return {process.pid for process in self._running.values()}

    def close(self) -> None:
        for process in self._running.values():
            process.kill()
        for process in self._running.values():
            process.wait(10)
