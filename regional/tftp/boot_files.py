"""Which bytes a name means: the port `BootFiles`, files under one directory, and one source after another.

Invariant: nothing outside the directory is ever found, whichever way the name is spelled and wherever links lead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from regional import paths


class BootFiles(Protocol):
    """Asked once per transfer, within a deadline of a second; what is found is sent as it was then."""

    async def find(self, name: str, client: str) -> bytes | Path | None:
        """`name` as the client spelled it, `client` its address. Bytes are sent as they are, a path names a file that
        may be sent, None: nothing known. Raises `NotFound` or `Denied` to end the search.
        """
        ...


class Directory:
    """Files under `root`. Backslashes are slashes (Windows' and some UEFI loaders), leading ones are ignored. `whole`
    raises if a file is still being written; it is called in a thread.
    """

    def __init__(self, root: Path, whole: Callable[[Path], None] = lambda _: None) -> None:
        self._root = root
        self._whole = whole

    async def find(self, name: str, client: str) -> bytes | Path | None:
        names = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
        if not names or ".." in names or any(paths.hidden(part) for part in names):
            return None
        try:
            return await asyncio.to_thread(self._found, names)
        except paths.FileMissing:
            return None

    def _found(self, names: tuple[str, ...]) -> Path:
        path = paths.resolve(self._root, names)
        self._whole(path)
        return path


class FirstOf:
    """The first that knows the name."""

    def __init__(self, found_by: Sequence[BootFiles]) -> None:
        self._found_by = found_by

    async def find(self, name: str, client: str) -> bytes | Path | None:
        for files in self._found_by:
            found = await files.find(name, client)
            if found is not None:
                return found
        return None
