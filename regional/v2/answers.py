"""What the centre answered about repositories: manifests, tags, which contents are in which repository, and which
repositories are public. Kept on disk (SQLite), so that held images are pulled while the centre is away.

Invariants: only positive answers are kept, each with the moment at which the centre last gave it; what the centre
denied is forgotten; nothing older than `keep` is ever given. That a digest is in a repository is believed only because
the centre said so of this repository: a manifest may name contents that are somebody else's. Blocking: call it in
threads.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog

from common.clock import Clock
from common.digest import Digest
from common.errors import Unavailable
from regional.damage import is_damage

log = structlog.get_logger()

# A manifest is about 2 KB and at most 4 MiB; the oldest leave.
_MOST_MANIFESTS = 20_000
_MOST_MANIFEST_BYTES = 256 << 20
_MOST_ROWS = 500_000
# Parameters of one statement; SQLite before 3.32 takes 999.
_PAGE = 500

_SCHEMA = """
CREATE TABLE IF NOT EXISTS manifests (
    repository TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL, payload BLOB NOT NULL,
    answered_at REAL NOT NULL, PRIMARY KEY (repository, digest)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tags (
    repository TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL,
    answered_at REAL NOT NULL, PRIMARY KEY (repository, tag)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS links (
    repository TEXT NOT NULL, digest TEXT NOT NULL, tenant_id TEXT NOT NULL, size_bytes INTEGER NOT NULL,
    answered_at REAL NOT NULL, PRIMARY KEY (repository, digest)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS public (
    repository TEXT NOT NULL PRIMARY KEY, answered_at REAL NOT NULL) WITHOUT ROWID;
"""
_LINKS = "SELECT digest, tenant_id, size_bytes, answered_at FROM links WHERE repository = ? AND digest IN ({})"
_TABLES = ("manifests", "tags", "links", "public")


@dataclass(frozen=True, slots=True)
class KnownManifest:
    """`age`: seconds since the centre last said so; of a tag, since it last said that it names this manifest."""

    digest: Digest
    media_type: str
    payload: bytes
    age: float


@dataclass(frozen=True, slots=True)
class Link:
    """The centre said that the repository has the content. `age`: seconds since then."""

    tenant_id: str
    size_bytes: int
    age: float


class AnswersUnusable(Unavailable):
    """The disk is full, or away."""

    code = "registry_answers_unusable"


class Answers:
    """`path` is ours alone; a file that cannot be read is set aside, for the centre can say everything again."""

    def __init__(self, path: Path, clock: Clock, keep: timedelta) -> None:
        self._path = path
        self._clock = clock
        self._keep_seconds = keep.total_seconds()
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None

    def open(self) -> None:
        """Raises `AnswersUnusable`."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._database = self._connect()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise AnswersUnusable(
                    f"what the centre said of repositories cannot be read from {self._path}: {error}",
                    action="free space in the data directory, or look after its disk",
                ) from error
            log.warning("remembered answers not readable, set aside", path=str(self._path), error=str(error))
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{self._path}{suffix}").replace(f"{self._path}.damaged{suffix}")
            self._database = self._connect()
        self.prune()

    def close(self) -> None:
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def manifest(self, repository: str, digest: Digest) -> KnownManifest | None:
        with self._reading() as database:
            row = database.execute(
                "SELECT media_type, payload, answered_at FROM manifests WHERE repository = ? AND digest = ?",
                (repository, str(digest)),
            ).fetchone()
        if row is None or (age := self._age(row[2])) > self._keep_seconds:
            return None
        return KnownManifest(digest, row[0], row[1], age)

    def tagged(self, repository: str, tag: str) -> KnownManifest | None:
        with self._reading() as database:
            row = database.execute(
                "SELECT t.digest, m.media_type, m.payload, t.answered_at FROM tags t JOIN manifests m "
                "ON m.repository = t.repository AND m.digest = t.digest WHERE t.repository = ? AND t.tag = ?",
                (repository, tag),
            ).fetchone()
        if row is None or (age := self._age(row[3])) > self._keep_seconds:
            return None
        return KnownManifest(Digest.parse(row[0]), row[1], row[2], age)

    def keep_manifest(
        self, repository: str, digest: Digest, media_type: str, payload: bytes, tag: str | None = None
    ) -> None:
        """The centre gave it, under `tag` if it was asked by one. `payload` was verified."""
        now = self._now()
        with self._writing() as database:
            database.execute(
                "INSERT OR REPLACE INTO manifests VALUES (?, ?, ?, ?, ?)",
                (repository, str(digest), media_type, payload, now),
            )
            if tag is not None:
                database.execute("INSERT OR REPLACE INTO tags VALUES (?, ?, ?, ?)", (repository, tag, str(digest), now))

    def confirm(self, repository: str, digest: Digest, tag: str | None = None) -> None:
        """The centre said that what is known is still so."""
        now = self._now()
        with self._writing() as database:
            key = (now, repository, str(digest))
            database.execute("UPDATE manifests SET answered_at = ? WHERE repository = ? AND digest = ?", key)
            if tag is not None:
                database.execute(
                    "UPDATE tags SET answered_at = ? WHERE repository = ? AND digest = ? AND tag = ?", (*key, tag)
                )

    def forget_manifest(self, repository: str, digest: Digest) -> None:
        with self._writing() as database:
            database.execute("DELETE FROM manifests WHERE repository = ? AND digest = ?", (repository, str(digest)))

    def forget_tag(self, repository: str, tag: str) -> None:
        with self._writing() as database:
            database.execute("DELETE FROM tags WHERE repository = ? AND tag = ?", (repository, tag))

    def links(self, repository: str, digests: Sequence[Digest]) -> dict[Digest, Link]:
        found: dict[Digest, Link] = {}
        with self._reading() as database:
            for start in range(0, len(digests), _PAGE):
                page = [str(digest) for digest in digests[start : start + _PAGE]]
                query = _LINKS.format(",".join("?" * len(page)))
                rows = database.execute(query, (repository, *page)).fetchall()
                for digest, tenant_id, size_bytes, answered_at in rows:
                    if (age := self._age(answered_at)) <= self._keep_seconds:
                        found[Digest.parse(digest)] = Link(tenant_id, size_bytes, age)
        return found

    def keep_links(
        self, repository: str, tenant_id: str, asked: Sequence[Digest], sizes: Mapping[Digest, int], *, public: bool
    ) -> None:
        """The centre was asked for `asked`; the repository has those in `sizes` and not the others."""
        now = self._now()
        absent = [(repository, str(digest)) for digest in asked if digest not in sizes]
        with self._writing() as database:
            database.executemany("DELETE FROM links WHERE repository = ? AND digest = ?", absent)
            database.executemany(
                "INSERT OR REPLACE INTO links VALUES (?, ?, ?, ?, ?)",
                [(repository, str(digest), tenant_id, size, now) for digest, size in sizes.items()],
            )
            if public:
                database.execute("INSERT OR REPLACE INTO public VALUES (?, ?)", (repository, now))
            else:
                database.execute("DELETE FROM public WHERE repository = ?", (repository,))

    def forget_link(self, repository: str, digest: Digest) -> None:
        with self._writing() as database:
            database.execute("DELETE FROM links WHERE repository = ? AND digest = ?", (repository, str(digest)))

    def public_age(self, repository: str) -> float | None:
        """Seconds since the centre last said that everybody may pull it; None if it did not, or took it back."""
        with self._reading() as database:
            row = database.execute("SELECT answered_at FROM public WHERE repository = ?", (repository,)).fetchone()
        if row is None or (age := self._age(row[0])) > self._keep_seconds:
            return None
        return age

    def prune(self) -> None:
        """Drop what is too old to be given, and the oldest of what is too much."""
        oldest = self._now() - self._keep_seconds
        with self._writing() as database:
            for table in _TABLES:
                database.execute(f"DELETE FROM {table} WHERE answered_at < ?", (oldest,))  # noqa: S608  our own names
            self._bound_manifests(database)
            for table in ("tags", "links"):
                (count,) = database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()  # noqa: S608
                if count > _MOST_ROWS:
                    database.execute(
                        f"DELETE FROM {table} WHERE answered_at <= (SELECT answered_at FROM {table} "  # noqa: S608
                        "ORDER BY answered_at DESC LIMIT 1 OFFSET ?)",
                        (_MOST_ROWS,),
                    )

    def _bound_manifests(self, database: sqlite3.Connection) -> None:
        count = size = 0
        rows = database.execute("SELECT LENGTH(payload), answered_at FROM manifests ORDER BY answered_at DESC")
        for length, answered_at in rows:
            count, size = count + 1, size + length
            if count > _MOST_MANIFESTS or size > _MOST_MANIFEST_BYTES:
                database.execute("DELETE FROM manifests WHERE answered_at <= ?", (answered_at,))
                return

    def _connect(self) -> sqlite3.Connection:
        # Threads take turns (the lock), so the connection may go from one to the other.
        database = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=5.0)
        try:
            self._path.chmod(0o600)
            # A power cut may lose the last answers, never the file: what is lost is asked again.
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.executescript(_SCHEMA)
            database.execute("PRAGMA quick_check").fetchone()
        except sqlite3.DatabaseError:
            database.close()
            raise
        return database

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._database is None:
                raise RuntimeError("the answers are not open")
            yield self._database

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction. What cannot be written (a full disk) is not remembered, and nothing else suffers."""
        with self._reading() as database:
            try:
                database.execute("BEGIN IMMEDIATE")
                try:
                    yield database
                    database.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(sqlite3.OperationalError):
                        database.execute("ROLLBACK")
                    raise
            except sqlite3.OperationalError as error:
                log.warning("answer of the centre not remembered", error=str(error))

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _age(self, answered_at: float) -> float:
        # A clock that was set back makes an answer look as if it came from the future: it is as old as can be told.
        return max(0.0, self._now() - answered_at)
