"""The port to whoever knows what a machine boots: the file of `regional.boot_targets.BootMap`, or more than that."""

from __future__ import annotations

from typing import Protocol

from regional.boot_targets import Asker, BootFile


class Boots(Protocol):
    """Asked for each answer to firmware, on the event loop: from memory, at once."""

    def knows(self, mac: str) -> bool:
        """Whether the machine is known, and may so use pools of known machines. `mac` in lower case with colons."""
        ...

    def file_for(self, asker: Asker) -> BootFile | None:
        """None: it shall go on to its next boot device. An `asker` that is iPXE must never get a loader."""
        ...
