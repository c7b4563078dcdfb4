"""What TFTP serves of machines: GRUB's configurations, iPXE's first script, and the files of one boot by its token.

Debian's signed GRUB knows no HTTP, so under Secure Boot kernel and initrd go this way as well, and it names no machine:
that is known by the address that our DHCP gave it. Invariant: as by HTTP, a file is given only for the token of its
boot, and a configuration by address and lease.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from common.digest import Digest
from common.errors import Failure
from regional import paths
from regional.boot_targets import mac_of
from regional.machines.asking import Ask
from regional.machines.boot_files import BootFilesOf
from regional.machines.scripts import Scripts
from regional.machines.timeline import Timeline
from regional.machines.watching import Watching

_MAC = r"((?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2})"
_GRUB = re.compile(rf"(?:.*/)?grub\.cfg-01-{_MAC}")
_PLAIN_GRUB = re.compile(r"(?:.*/)?grub/grub\.cfg")
_SCRIPT = re.compile(rf"boot/{_MAC}\.ipxe")
_FILE = re.compile(r"boot/s/([A-Za-z0-9_-]{16,256})/([a-z0-9-]{1,40})")
# A GRUB that reads one configuration only, on an address that is not ours: from there to the machine's own.
_LEAD_ON = b"configfile /boot/grub.cfg-01-$net_default_mac\nexit\n"


class MachineFiles:
    """A `BootFiles`. `content`: where the edge cache has one, None if it has not; `static_root` comes first for a
    `grub/grub.cfg` of the operator's.
    """

    def __init__(
        self,
        scripts: Scripts,
        files: BootFilesOf,
        timeline: Timeline,
        watching: Watching,
        static_root: Path,
        content: Callable[[Digest], Path | None],
    ) -> None:
        self._scripts = scripts
        self._files = files
        self._timeline = timeline
        self._watching = watching
        self._static_root = static_root
        self._content = content

    async def find(self, name: str, client: str) -> bytes | Path | None:
        plain = "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
        if found := _GRUB.fullmatch(plain):
            return await self._grub(mac_of(found[1]), client)
        if found := _SCRIPT.fullmatch(plain):
            mac = mac_of(found[1])
            if mac is None:
                return None
            self._watching.asked(mac, client, ipxe=True)
            return self._scripts.ipxe_stub(mac).encode()
        if found := _FILE.fullmatch(plain):
            return await asyncio.to_thread(self._file, found[1], found[2])
        if _PLAIN_GRUB.fullmatch(plain) and not await asyncio.to_thread((self._static_root / plain).is_file):
            return await self._grub(self._timeline.lessee(client), client) or _LEAD_ON
        return None

    async def _grub(self, mac: str | None, client: str) -> bytes | None:
        if mac is None:
            return None
        ask = Ask(mac, None, address=client, leased=self._timeline.leased(mac))
        self._watching.said(ask)
        return (await asyncio.to_thread(self._scripts.grub, ask)).encode()

    def _file(self, token: str, name: str) -> Path | None:
        """Raises `NotFound` or `Denied`."""
        try:
            found = self._files.find(token, name)
        except Failure as failure:
            raise paths.FileMissing(failure.detail) from None
        if found.file.content is not None:
            return self._content(found.file.content.digest)
        return paths.resolve(self._static_root / "static", paths.segments(found.file.path.replace("%", "%25")))
