"""The directory that agent and supervisor share.

Invariant: every file is replaced as a whole and durably; a file that is damaged counts as none, and then the supervisor
runs what is trusted.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from agent.updates.model import BUILT_IN, Order, State, order_of, state_of
from common.durable import sync_directory, write_file

ENTRY = "longshore-agent"
_PARTIAL = ".partial-"


class Layout:
    """All methods block. `step` is called with a word before each change of the disk; tests die there."""

    def __init__(self, root: Path, step: Callable[[str], None] = lambda _: None) -> None:
        self.root = root
        self.versions = root / "versions"
        self._step = step

    def prepare(self) -> None:
        self.versions.mkdir(parents=True, exist_ok=True, mode=0o700)

    def version(self, digest: str) -> Path:
        return self.versions / digest

    def entry(self, digest: str) -> Path:
        return self.version(digest) / ENTRY

    def installed(self, digest: str) -> bool:
        return digest == BUILT_IN or os.access(self.entry(digest), os.X_OK)

    def partial(self, digest: str) -> Path:
        """An empty directory to unpack into."""
        path = self.versions / f"{_PARTIAL}{digest}"
        self._step("clear partial")
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True, mode=0o700)
        return path

    def publish(self, digest: str) -> None:
        """The version unpacked into `partial` appears, whole and durable."""
        path = self.versions / f"{_PARTIAL}{digest}"
        for directory, _, files in os.walk(path):
            for name in files:
                _sync_file(Path(directory) / name)
            sync_directory(Path(directory))
        self._step("publish version")
        path.rename(self.version(digest))
        sync_directory(self.versions)

    def forget_all_but(self, kept: Collection[str]) -> None:
        for path in self.versions.iterdir():
            if path.name not in kept:
                self._step("forget version")
                shutil.rmtree(path, ignore_errors=True)

    def read_state(self) -> State:
        return state_of(self._read("state.json"))

    def write_state(self, state: State) -> None:
        """And then the link, which only people read."""
        self._write("state.json", {**state.document(), "supervisor": os.getpid()})
        self._link(state.to_run)

    def supervisor(self) -> int:
        """The pid that wrote the state last; 0: nobody."""
        document = self._read("state.json")
        pid = document.get("supervisor") if isinstance(document, dict) else 0
        return pid if isinstance(pid, int) else 0

    def read_wanted(self) -> Order | None:
        return self._read_order("wanted.json")

    def write_wanted(self, order: Order) -> None:
        self._write("wanted.json", order.document())

    def read_healthy(self) -> Order | None:
        return self._read_order("healthy.json")

    def write_healthy(self, order: Order) -> None:
        self._write("healthy.json", order.document())

    def clear_healthy(self) -> None:
        """What another process said of itself is not true of the next one."""
        self._step("clear healthy.json")
        (self.root / "healthy.json").unlink(missing_ok=True)

    def _link(self, digest: str) -> None:
        link, fresh = self.root / "current", self.root / ".current"
        target = f"versions/{digest}"
        with contextlib.suppress(FileNotFoundError):
            if digest != BUILT_IN and os.readlink(link) == target:
                return
        self._step("link current")
        if digest == BUILT_IN:
            link.unlink(missing_ok=True)
        else:
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(target)
            os.replace(fresh, link)
        sync_directory(self.root)

    def _read_order(self, name: str) -> Order | None:
        try:
            return order_of(self._read(name))
        except (KeyError, TypeError, ValueError):
            return None

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self.root / name).read_bytes())
        except (OSError, ValueError):
            return None

    def _write(self, name: str, document: dict[str, Any]) -> None:
        self._step(f"write {name}")
        write_file(self.root / name, json.dumps(document, indent=1).encode(), 0o644)


def _sync_file(path: Path) -> None:
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
