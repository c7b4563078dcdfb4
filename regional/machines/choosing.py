"""What DHCP tells a machine to load: as the centre says of it, else as the DHCP file says; pure.

Invariant: whoever is iPXE already is left to `BootMap`, which never gives it a loader again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from regional.boot_targets import Asker, BootFile, BootMap, firmware_of
from regional.machines.model import Target

# Architectures of firmware that boots over HTTP.
_HTTP = frozenset({16, 19})


class MachineBoots:
    """A `Boots` (dhcp/choosing.py). `target`: by MAC."""

    def __init__(self, said: BootMap, target: Callable[[str], Target | None]) -> None:
        self._said = said
        self._target = target

    def knows(self, mac: str) -> bool:
        return self._target(mac) is not None or self._said.knows(mac)

    def file_for(self, asker: Asker) -> BootFile | None:
        target = self._target(asker.mac)
        if target is None or asker.ipxe:
            return self._said.file_for(asker)
        if target.architecture is not None:
            http = asker.http or target.architecture in _HTTP
            asker = replace(asker, architectures=(target.architecture,), http=http)
        firmware = firmware_of(asker.architectures)
        if not target.loader or firmware is None:
            return self._said.file_for(asker)
        loader = {firmware[0]: f"static/{target.loader.lstrip('/')}"}
        return replace(self._said, machines={asker.mac: loader}).file_for(asker)
