"""What lies in an area of files, as the listing API and the HTML index show it. Blocking: call it in a thread.

Order: a directory, then what is in it, names sorted; so a path says where the next page begins. Links are shown if what
they point to lies inside the area; linked directories are shown and not entered, so that a loop of links ends.
"""

from __future__ import annotations

import html
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from regional import paths

# Deeper trees are no mirrors, and every level is a frame on Python's stack.
MAXIMUM_DEPTH = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """`path` is relative to the area and begins with `/`."""

    name: str
    path: str
    is_dir: bool
    size: int
    modified: datetime

    def as_json(self) -> dict[str, Any]:
        """Directories carry no time, as the API has it."""
        shown: dict[str, Any] = {
            "name": _printable(self.name),
            "path": _printable(self.path),
            "is_dir": self.is_dir,
            "size": self.size,
        }
        if not self.is_dir:
            shown["modified"] = f"{self.modified:%Y-%m-%dT%H:%M:%SZ}"
        return shown


def list_recursively(
    area: Path, names: tuple[str, ...], limit: int, after: tuple[str, ...] = (), depth: int = MAXIMUM_DEPTH
) -> tuple[list[Entry], bool]:
    """At most `limit` entries below `area/names` behind the path `after`, `depth` levels of them, and whether there
    were more. Unreadable directories look empty.
    """
    entries: list[Entry] = []
    deepest = min(len(names) + depth - 1, MAXIMUM_DEPTH)
    for entry in _walk(area.resolve(), names, after, deepest):
        if len(entries) == limit:
            return entries, True
        entries.append(entry)
    return entries, False


def list_directory(area: Path, names: tuple[str, ...], limit: int) -> list[Entry]:
    """One level, at most `limit` entries."""
    return [entry for entry, _ in _directory(area.resolve(), names)][:limit]


def index_page(title: str, entries: list[Entry], *, has_parent: bool) -> str:
    """A small HTML list with relative links."""
    rows = ['<li><a href="../">../</a></li>'] if has_parent else []
    for entry in entries:
        slash = "/" if entry.is_dir else ""
        # A name with a colon would read as a scheme without the leading "./" (RFC 3986 section 4.2).
        target = "./" + quote(entry.name, errors="surrogateescape") + slash
        size = "" if entry.is_dir else f" &nbsp; {entry.size} bytes, {entry.modified:%Y-%m-%d %H:%M:%S} UTC"
        rows.append(f'<li><a href="{html.escape(target)}">{html.escape(_printable(entry.name))}{slash}</a>{size}</li>')
    shown = html.escape(_printable(title))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{shown}</title></head>'
        f"<body><h1>{shown}</h1><ul>\n" + "\n".join(rows) + "\n</ul></body></html>\n"
    )


def _walk(area: Path, names: tuple[str, ...], after: tuple[str, ...], deepest: int) -> Iterator[Entry]:
    for entry, enter in _directory(area, names):
        here = (*names, entry.name)
        if here > after:
            yield entry
        elif after[: len(here)] != here:
            continue  # a page before this one had all of it: not even looked into
        if enter and len(names) < deepest:
            yield from _walk(area, here, after, deepest)


def _directory(area: Path, names: tuple[str, ...]) -> Iterator[tuple[Entry, bool]]:
    """Entries of one directory and whether each is a real directory."""
    try:
        with os.scandir(area.joinpath(*names)) as found:
            children = sorted(found, key=lambda child: child.name)
    except OSError:
        return
    for child in children:
        if paths.hidden(child.name):
            continue
        if child.is_symlink() and not _stays_inside(area, child):
            continue
        try:
            status = child.stat()
        except OSError:
            continue
        if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
            continue
        is_directory = stat.S_ISDIR(status.st_mode)
        path = "/" + "/".join((*names, child.name))
        modified = datetime.fromtimestamp(status.st_mtime, tz=UTC)
        entry = Entry(child.name, path, is_directory, status.st_size, modified)
        yield entry, is_directory and not child.is_symlink()


def _stays_inside(area: Path, child: os.DirEntry[str]) -> bool:
    try:
        return Path(child.path).resolve(strict=True).is_relative_to(area)
    except (OSError, RuntimeError):
        return False


def _printable(name: str) -> str:
    # Names that are no UTF-8 are shown with replacement characters: JSON and HTML can carry nothing else.
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
