"""From a request to the bytes it names and the terms they are sent on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from common.errors import NotFound, Unavailable
from regional.tftp.boot_files import BootFiles
from regional.tftp.packet import Request
from regional.tftp.sheets import Layout
from regional.tftp.sources import FileSource, Library, MemorySource, NetasciiSource, Ready, Source, as_netascii
from regional.tftp.terms import Limits, Terms, agree

_FIND_SECONDS = 1.0


class BootFileMissing(NotFound):
    code = "boot_file_missing"


class BootFileLate(Unavailable):
    code = "boot_file_late"


@dataclass(frozen=True)
class Opener:
    files: BootFiles
    library: Library
    limits: Limits

    async def open(self, request: Request, client: str, ready: Ready) -> tuple[Source, Terms]:
        """Raises `NotFound`, `Denied` or another failure of the files; `BootFileLate` after a second."""
        try:
            async with asyncio.timeout(_FIND_SECONDS):
                found = await self.files.find(request.name, client)
        except TimeoutError:
            raise BootFileLate("the file could not be had in time", action="ask again") from None
        if found is None:
            raise BootFileMissing("there is no such file")
        if isinstance(found, bytes):
            return self._of_memory(found, request)
        return await self._of_file(found, request, ready)

    def _of_memory(self, content: bytes, request: Request) -> tuple[Source, Terms]:
        netascii = request.mode == "netascii"
        terms = agree(request.options, None if netascii else len(content), self.limits)
        return MemorySource(as_netascii(content) if netascii else content, self._layout(terms)), terms

    async def _of_file(self, path: Path, request: Request, ready: Ready) -> tuple[Source, Terms]:
        file = self.library.adopt(await asyncio.to_thread(Library.look_up, path))
        if request.mode == "netascii":
            terms = agree(request.options, None, self.limits)
            return NetasciiSource(self.library, file, self._layout(terms), terms.window_blocks, ready), terms
        terms = agree(request.options, file.size, self.limits)
        return FileSource(self.library, file, self._layout(terms), ready), terms

    def _layout(self, terms: Terms) -> Layout:
        return Layout(terms.block_bytes, self.limits.rollover)
