"""A real computer in QEMU that is turned on and off by a BMC of `bmcs`: what the BMC says it did is done to it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.engines.bmcs import RunningBmc
from tests.engines.processes import Process, find_program


class Plugged:
    """`boots`: from where it was started, each time."""

    def __init__(self, bmc: RunningBmc, directory: Path) -> None:
        self._bmc = bmc
        self._directory = directory
        self._program = find_program("qemu-system-x86_64", "netboot")
        self._running: Process | None = None
        self._seen = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="plug")
        self.boots: list[str] = []

    @property
    def is_on(self) -> bool:
        return self._running is not None and self._running.running

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()
        self._turn(on=False, boot="")

    def _follow(self) -> None:
        while not self._ending.wait(0.05):
            changes = self._bmc.changes
            for change in changes[self._seen :]:
                self._turn(on=change["power"] == "on", boot=change["boot"])
            self._seen = len(changes)

    def _turn(self, *, on: bool, boot: str) -> None:
        if on and not self.is_on:
            words = [self._program, "-accel", "tcg", "-m", "64", "-nodefaults", "-display", "none"]
            if boot == "Pxe":
                words += ["-boot", "n"]
            self._running = Process(words, self._directory / "qemu.log")
            self.boots.append(boot)
        elif not on and self._running is not None:
            self._running.kill()
            self._running = None


@contextlib.contextmanager
def plugged(bmc: RunningBmc, directory: Path) -> Iterator[Plugged]:
    """Off at first, and at the end. Raises `EngineCannotRun`."""
    machine = Plugged(bmc, directory)
    machine.start()
    try:
        yield machine
    finally:
        machine.stop()
