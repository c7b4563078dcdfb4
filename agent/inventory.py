"""What this host is: told to the control plane at the beginning of each attachment.

Invariant: asking never fails and never waits for an engine; the engines that answered when last asked are remembered.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
from pathlib import Path

from agent.model import Engine, HostFacts
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
_LOOK_SECONDS = 10.0


class Inventory:
    """`data`: where contents are kept; its disk is the one whose room counts."""

    def __init__(self, data: Path, runtime: RuntimeChoice, clock: Clock) -> None:
        self._data = data
        self._runtime = runtime
        self._clock = clock
        self._engines: tuple[Engine, ...] = ()

    def facts(self) -> HostFacts:
        machine = platform.machine()
        return HostFacts(
            hostname=socket.gethostname(),
            architecture=_ARCHITECTURES.get(machine, machine),
            operating_system=platform.system().lower(),
            cpus=os.cpu_count() or 1,
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            disk_free_bytes=shutil.disk_usage(self._data).free,
            engines=self._engines,
        )

    async def look(self) -> None:
        """Ask the engine what it is; one that does not answer is not listed."""
        self._engines = await self._runtime.look()

    async def look_forever(self) -> None:
        while True:
            await self.look()
            await self._clock.sleep(_LOOK_SECONDS)
