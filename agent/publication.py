"""Verified files made durable and given their names, many at a time.

Invariant: a name exists only for bytes that were fsynced before, so a crash leaves the whole content or no name at all;
when `link` returns, the name survives power loss too. Whoever comes while a batch is under way waits for the next one.
Its files are synced one after the other (the first of them commits the file system's journal for most), then all get
their names, then each folder is synced once.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common.durable import sync_directory

# A batch ends soon, so that the first of it does not wait for many.
_MOST = 32


@dataclass(eq=False)
class _Item:
    source: Path
    name: Path
    done: bool = False
    error: OSError | None = None


class Publication:
    """Thread-safe; `link` blocks, so call it in a thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: list[_Item] = []

    def link(self, source: Path, name: Path) -> None:
        """`source` stays where it is. Harmless to repeat. Raises OSError; then the name may be missing."""
        item = _Item(source, name)
        with self._guard:
            self._waiting.append(item)
        while not item.done:
            with self._turn:
                if not item.done:
                    self._commit()
        if item.error is not None:
            raise item.error

    def _commit(self) -> None:
        with self._guard:
            batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        try:
            for item in batch:
                _attempt([item], partial(_sync_file, item.source))
            made = {item.name.parent.parent for item in batch if _attempt([item], partial(_link, item))}
            for folder in {item.name.parent for item in batch} | made:
                _attempt([one for one in batch if folder in one.name.parents], partial(sync_directory, folder))
        finally:
            for item in batch:
                item.done = True


def _attempt(items: Sequence[_Item], act: Callable[[], object]) -> object:
    """What `act` gives; None for items that failed before, and an error becomes that of all of them."""
    sound = [item for item in items if item.error is None]
    try:
        return act() if sound else None
    except OSError as error:
        for item in sound:
            item.error = error
        return None


def _link(item: _Item) -> bool:
    """Whether its folder is new, so that the folder above has a name to keep."""
    is_new = not item.name.parent.exists()
    item.name.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.link(item.source, item.name)
    return is_new


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
