"""What this host is: told to the control plane at the beginning of each attachment, and again when it changed.

Invariant: asking never fails and never waits for an engine or a disk; what the last look found is remembered.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from agent.inventory_model import HostFacts, Machine
from agent.inventory_reading import read_machine
from agent.model import Engine
from agent.runtimes.choice import RuntimeChoice
from common.clock import Clock

# uname's words to GOARCH's, which OCI image indexes use (image-spec, image-index.md "platform").
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}
LOOK_SECONDS = 10.0


class Inventory:
    """`data`: where contents are kept; its disk is the one whose room counts. `artifact`: digest of the update that
    this process runs from, if any. `tell` is given what changed since the host was last told of, and says whether it
    went out.
    """

    def __init__(self, data: Path, runtime: RuntimeChoice, clock: Clock, artifact: str = "") -> None:
        self._data = data
        self._runtime = runtime
        self._clock = clock
        self._artifact = artifact
        self._engines: tuple[Engine, ...] = ()
        self._machine = Machine()
        self._told: HostFacts | None = None
        self.tell: Callable[[HostFacts], bool] = lambda _: False
        self.away_seconds = 0.0

    def facts(self) -> HostFacts:
        machine, disk = platform.machine(), shutil.disk_usage(self._data)
        return HostFacts(
            hostname=socket.gethostname(),
            architecture=_ARCHITECTURES.get(machine, machine),
            operating_system=platform.system().lower(),
            cpus=os.cpu_count() or 1,
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            disk_bytes=disk.total,
            disk_free_bytes=disk.free,
            engines=self._engines,
            artifact=self._artifact,
            machine=self._machine,
        )

    def presented(self) -> HostFacts:
        """For Hello: from now on these are what the other side knows."""
        self._told = self.facts()
        return self._told

    async def look(self) -> None:
        """Ask the engine what it is; one that does not answer is not listed. Then tell what is news."""
        self._engines = await self._runtime.look()
        self._machine = await asyncio.to_thread(read_machine)
        if self._told is not None and not self._told.same_host(facts := self.facts()) and self.tell(facts):
            self._told = facts

    async def look_forever(self) -> None:
        before = self._clock.monotonic()
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            await self.look()
            now = self._clock.monotonic()
            if self._runtime.driver() is not None and not self._engines:
                self.away_seconds += now - before
            before = now
