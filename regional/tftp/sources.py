"""Where the bytes of a transfer come from: files that are opened and read once for all who ask, memory, and netascii.

Invariants: the event loop never waits for a disk (what the page cache has not is read in a thread); what is kept in
memory is bounded; a file that shrinks while it is sent breaks its transfers instead of ending them early.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol

from common.errors import Failure, NotFound, Unavailable
from regional.tftp.sheets import Layout, Sheet, lay_out

# Called with what went wrong, or None, when a sheet that was missing has arrived.
Ready = Callable[[Failure | None], None]
_KEPT_SHEETS = 512
_READERS = 4
_Key = tuple[int, int, int, int]


class FileUnreadable(NotFound):
    code = "tftp_file_unreadable"


class FileChanged(Unavailable):
    code = "tftp_file_changed"


class Source(Protocol):
    """`size`: bytes on the wire; None: known only at the end."""

    size: int | None

    def sheet(self, block: int) -> Sheet | None:
        """The sheet with that block; None: it is being read, and `ready` will be called."""
        ...

    def close(self) -> None: ...


class OpenFile:
    """One state of one file. Owned by `Library`."""

    def __init__(self, descriptor: int, status: os.stat_result) -> None:
        self.descriptor = descriptor
        self.size = status.st_size
        self.key: _Key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        self.uses = 0


class Library:
    """Open files and their sheets. All methods but `look_up` are for the loop's thread."""

    def __init__(self) -> None:
        self._files: dict[_Key, OpenFile] = {}
        self._sheets: OrderedDict[tuple[_Key, Layout, int], Sheet] = OrderedDict()
        self._awaited: dict[tuple[_Key, Layout, int], list[Ready]] = {}
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="tftp-read")

    @staticmethod
    def look_up(path: Path) -> OpenFile:
        """Blocking. Raises `FileUnreadable`."""
        try:
            # O_NONBLOCK: opening a FIFO that somebody left here must not hang a thread for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            raise FileUnreadable(f"{path.name} cannot be opened", action="check its permissions") from error
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            return OpenFile(descriptor, status)
        os.close(descriptor)
        raise FileUnreadable(f"{path.name} is no file", action="ask for a file")

    def adopt(self, file: OpenFile) -> OpenFile:
        """The one that all share; give it back with `release`."""
        known = self._files.setdefault(file.key, file)
        if known is not file:
            os.close(file.descriptor)
        known.uses += 1
        return known

    def release(self, file: OpenFile) -> None:
        file.uses -= 1
        if file.uses == 0 and self._files.pop(file.key, None) is file:
            os.close(file.descriptor)

    def sheet(self, file: OpenFile, layout: Layout, block: int, ready: Ready) -> Sheet | None:
        """None: `ready` will be called."""
        key = (file.key, layout, (block - 1) // layout.blocks)
        found = self._sheets.get(key)
        if found is not None:
            self._sheets.move_to_end(key)
            return found
        if key in self._awaited:
            self._awaited[key].append(ready)
            return None
        read = partial(_read_sheet, file, layout, key[2])
        found = read(os.RWF_NOWAIT)
        if found is not None:
            self._keep(key, found)
            return found
        self._awaited[key] = [ready]
        file.uses += 1
        self.run(read, partial(self._arrived, file, key))
        return None

    def run(self, work: Callable[[], Sheet | None], then: Callable[[Sheet | None, Failure | None], None]) -> None:
        """`work` in a thread, `then` back here."""

        def done(future: asyncio.Future[Sheet | None]) -> None:
            if future.cancelled():
                return
            error = future.exception()
            if error is None:
                then(future.result(), None)
            else:
                then(None, error if isinstance(error, Failure) else FileChanged(f"reading failed: {error}"))

        asyncio.get_running_loop().run_in_executor(self._readers, work).add_done_callback(done)

    def close(self) -> None:
        """After the transfers; waits for readers, which hold the descriptors."""
        self._readers.shutdown(wait=True, cancel_futures=True)
        for file in self._files.values():
            os.close(file.descriptor)
        self._files.clear()
        self._sheets.clear()

    def _arrived(
        self, file: OpenFile, key: tuple[_Key, Layout, int], sheet: Sheet | None, failure: Failure | None
    ) -> None:
        self.release(file)
        if sheet is not None:
            self._keep(key, sheet)
        for ready in self._awaited.pop(key, ()):
            ready(failure)

    def _keep(self, key: tuple[_Key, Layout, int], sheet: Sheet) -> None:
        self._sheets[key] = sheet
        if len(self._sheets) > _KEPT_SHEETS:
            self._sheets.popitem(last=False)


def _read_sheet(file: OpenFile, layout: Layout, index: int, flags: int = 0) -> Sheet | None:
    """With RWF_NOWAIT None if the page cache has not all of it. Raises `FileChanged` and, with no flags, `OSError`."""
    offset = index * layout.raw_bytes
    raw = bytearray(min(layout.raw_bytes, max(0, file.size - offset)))
    view, got = memoryview(raw), 0
    while got < len(raw):
        try:
            count = os.preadv(file.descriptor, [view[got:]], offset + got, flags)
        except OSError:
            if flags:  # not at hand, or a file system that cannot tell
                return None
            raise
        if count == 0:
            if flags:
                return None
            raise FileChanged("the file was cut short while it was sent", action="publish files by renaming")
        got += count
    return lay_out(raw, index, layout, final=len(raw) < layout.raw_bytes)


class FileSource:
    def __init__(self, library: Library, file: OpenFile, layout: Layout, ready: Ready) -> None:
        self.size: int | None = file.size
        self._library, self._file, self._layout, self._ready = library, file, layout, ready

    def sheet(self, block: int) -> Sheet | None:
        return self._library.sheet(self._file, self._layout, block, self._ready)

    def close(self) -> None:
        self._library.release(self._file)


class MemorySource:
    """Generated files."""

    def __init__(self, content: bytes, layout: Layout) -> None:
        self.size: int | None = len(content)
        self._content, self._layout = memoryview(content), layout

    def sheet(self, block: int) -> Sheet | None:
        index = (block - 1) // self._layout.blocks
        raw = self._content[index * self._layout.raw_bytes :][: self._layout.raw_bytes]
        return lay_out(raw, index, self._layout, final=len(raw) < self._layout.raw_bytes)

    def close(self) -> None:
        self._content.release()


class NetasciiSource:
    """A file as netascii (RFC 764: LF becomes CR LF, CR becomes CR NUL), converted as it goes; it can go back one
    window of `window_blocks`. The size is not known before the end.
    """

    size: int | None = None

    def __init__(self, library: Library, file: OpenFile, layout: Layout, window_blocks: int, ready: Ready) -> None:
        self._library, self._file, self._layout, self._ready = library, file, layout, ready
        self._kept: deque[Sheet] = deque(maxlen=window_blocks // layout.blocks + 2)
        self._index = self._offset = 0
        self._carried = b""
        self._reading = False

    def sheet(self, block: int) -> Sheet | None:
        for sheet in self._kept:
            if sheet.first <= block <= sheet.last:
                return sheet
        if not self._reading:
            self._reading = True
            self._file.uses += 1
            self._library.run(self._read, self._arrived)
        return None

    def close(self) -> None:
        self._library.release(self._file)

    def _read(self) -> Sheet:
        wanted = self._layout.raw_bytes
        while len(self._carried) < wanted and self._offset < self._file.size:
            raw = os.pread(self._file.descriptor, wanted, self._offset)
            if not raw:
                raise FileChanged("the file was cut short while it was sent", action="publish files by renaming")
            self._offset += len(raw)
            self._carried += as_netascii(raw)
        index, self._index = self._index, self._index + 1
        page, self._carried = self._carried[:wanted], self._carried[wanted:]
        return lay_out(page, index, self._layout, final=len(page) < wanted)

    def _arrived(self, sheet: Sheet | None, failure: Failure | None) -> None:
        self._reading = False
        self._library.release(self._file)
        if sheet is not None:
            self._kept.append(sheet)
        self._ready(failure)


def as_netascii(raw: bytes) -> bytes:
    return raw.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")
