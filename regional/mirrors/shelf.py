"""What was fetched from upstreams, on disk: bodies as files, and an index in SQLite that says what each of them is.

Invariant: a body that the index names is complete and on disk; one that it does not name is deleted at the next start.
All bodies together stay within the limit: who was asked for longest ago leaves first.

Blocking: call it in threads.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from regional.damage import is_damage
from regional.mirrors.model import UpstreamAway

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    url TEXT PRIMARY KEY, body TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL, modified TEXT NOT NULL,
    checked REAL NOT NULL, used REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS files_used ON files (used);
"""
# A hit writes only if the last one is so long ago.
_USED_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Kept:
    """`etag` and `modified` as upstream sent them, empty if it did not; `checked`: when upstream said last that this is
    what it has, in seconds since the epoch.
    """

    url: str
    body: str
    size: int
    etag: str
    modified: str
    checked: float


class Shelf:
    def __init__(self, root: Path, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._root = root
        self._lock = threading.Lock()
        self._index: sqlite3.Connection | None = None

    def open(self) -> None:
        """Forgets what a crash left half done. Raises `UpstreamAway` if the directory cannot be used."""
        try:
            (self._root / "bodies").mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self._root / "coming", ignore_errors=True)
            (self._root / "coming").mkdir()
            self._index = self._opened()
        except (OSError, sqlite3.Error) as error:
            raise UpstreamAway(
                f"{self._root} cannot hold a mirror's files: {error}", action="check the disk"
            ) from error
        self._compare()

    def _opened(self) -> sqlite3.Connection:
        path = self._root / "index.sqlite"
        try:
            return self._connected(path)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            # Everything here can be fetched again.
            path.unlink(missing_ok=True)
            return self._connected(path)

    def _connected(self, path: Path) -> sqlite3.Connection:
        index = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
        try:
            index.execute("PRAGMA journal_mode=WAL")
            index.execute("PRAGMA synchronous=NORMAL")
            index.executescript(_SCHEMA)
        except sqlite3.Error:
            index.close()
            raise
        return index

    def _compare(self) -> None:
        named = {body for (body,) in self._rows("SELECT body FROM files")}
        there = {entry.name for entry in os.scandir(self._root / "bodies")}
        for body in there - named:
            (self._root / "bodies" / body).unlink(missing_ok=True)
        for body in named - there:
            self._rows("DELETE FROM files WHERE body = ?", body)

    def close(self) -> None:
        with self._lock:
            if self._index is not None:
                self._index.close()
                self._index = None

    def find(self, url: str, wall: float) -> Kept | None:
        """`wall`: seconds since the epoch."""
        rows = self._rows("SELECT url, body, size, etag, modified, checked, used FROM files WHERE url = ?", url)
        if not rows:
            return None
        *facts, used = rows[0]
        if abs(wall - used) > _USED_SECONDS:
            self._rows("UPDATE files SET used = ? WHERE url = ?", wall, url)
        return Kept(*facts)

    def read(self, kept: Kept) -> BinaryIO | None:
        """None: it has left meanwhile. The caller closes it."""
        try:
            return (self._root / "bodies" / kept.body).open("rb", buffering=0)
        except OSError:
            return None

    def confirm(self, url: str, wall: float) -> None:
        """Upstream said that it still has the same."""
        self._rows("UPDATE files SET checked = ? WHERE url = ?", wall, url)

    def forget(self, url: str) -> None:
        for (body,) in self._rows("DELETE FROM files WHERE url = ? RETURNING body", url):
            (self._root / "bodies" / body).unlink(missing_ok=True)

    def begin(self) -> tuple[str, BinaryIO]:
        """A new body that nobody finds before `keep`."""
        body = secrets.token_hex(16)
        return body, (self._root / "coming" / body).open("x+b", buffering=0)

    def abandon(self, body: str) -> None:
        (self._root / "coming" / body).unlink(missing_ok=True)

    def keep(self, kept: Kept, file: BinaryIO, wall: float) -> None:
        """All of `file` is there now. Raises `OSError`."""
        os.fdatasync(file.fileno())
        (self._root / "coming" / kept.body).rename(self._root / "bodies" / kept.body)
        before = self._rows("SELECT body FROM files WHERE url = ?", kept.url)
        facts = (kept.url, kept.body, kept.size, kept.etag, kept.modified, kept.checked, wall)
        self._rows("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", *facts)
        for (body,) in before:
            (self._root / "bodies" / body).unlink(missing_ok=True)
        self._make_room(kept.url)

    def held_bytes(self) -> int:
        return int(self._rows("SELECT coalesce(sum(size), 0) FROM files")[0][0])

    def _make_room(self, newest: str) -> None:
        excess = self.held_bytes() - self.limit_bytes
        while excess > 0:
            rows = self._rows("SELECT url, size FROM files WHERE url <> ? ORDER BY used LIMIT 20", newest)
            if not rows:
                return
            for url, size in rows:
                if excess <= 0:
                    return
                self.forget(url)
                excess -= size

    def _rows(self, statement: str, *values: str | int | float) -> list[tuple[Any, ...]]:
        """Raises `UpstreamAway`: without the index nothing is known, and a full disk mends itself."""
        with self._lock:
            if self._index is None:
                raise UpstreamAway("the regional stops")
            try:
                return self._index.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise UpstreamAway(f"the index of mirrors cannot be used: {error}", action="check the disk") from error
